import math

import pytest
import torch

from mmv2m.ops import gelu_linear


def tensors(dtype=torch.float64, bias=True, shape=(2, 3, 5)):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype)
    weight = torch.randn(6, shape[-1], generator=generator).to(dtype)
    shift = torch.randn(6, generator=generator).to(dtype)
    inner = torch.randn(shape[-1], generator=generator).to(dtype)
    return (x, weight, shift, inner) if bias else (x, weight)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('shape', [(5,), (7, 5), (2, 3, 4, 5)])
def test_agrees_with_the_formula(shape, bias):
    x, weight, *biases = tensors(bias=bias, shape=shape)
    inner = x + biases[1] if bias else x
    activated = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in inner.flatten().tolist()]
    expected = torch.tensor(activated, dtype=x.dtype).view(shape) @ weight.T + sum(biases[:1])
    assert torch.allclose(gelu_linear(x, weight, *biases), expected)


@pytest.mark.parametrize('bias', [False, True])
def test_gradients(bias):
    assert torch.autograd.gradcheck(gelu_linear, [t.requires_grad_() for t in tensors(bias=bias)])


def test_parameters_of_another_dtype_and_autocast_keep_the_maps_dtype():
    x, *parameters = tensors(torch.bfloat16)
    expected = gelu_linear(x, *parameters)
    with torch.autocast('cpu', torch.float16):
        assert torch.equal(gelu_linear(x, *(p.float() for p in parameters)), expected)


@pytest.mark.parametrize(
    ('position', 'value', 'error', 'words'),
    [
        (0, torch.tensor(1.0), ValueError, 'x must have an axis of channels'),
        (0, torch.ones(2, 3, 5, dtype=torch.int64), TypeError, 'x must be real floating point'),
        (1, torch.rand(5), ValueError, r'weight must be a \(D, E\) tensor'),
        (1, None, ValueError, r'weight must be a \(D, E\) tensor'),
        (1, torch.rand(6, 4), ValueError, 'weight must have shape'),
        (2, torch.rand(5), ValueError, r'bias must have shape \(6,\)'),
        (2, 1.0, TypeError, 'bias must be a tensor'),
        (3, torch.rand(6), ValueError, r'inner_bias must have shape \(5,\)'),
    ],
)
def test_wrong_arguments(position, value, error, words):
    arguments = list(tensors())
    arguments[position] = value
    with pytest.raises(error, match=words):
        gelu_linear(*arguments)
