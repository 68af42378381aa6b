import math

import pytest
import torch

from mmv2m.ops import mlp


def tensors(dtype=torch.float64, bias=True, shape=(2, 3, 5)):
    """x, weight, bias, out_weight, out_bias."""
    generator = torch.Generator().manual_seed(0)
    shapes = (shape, (4, shape[-1]), (4,), (6, 4), (6,))
    x, *parameters = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return x, *(p if bias or p.dim() == 2 else None for p in parameters)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('shape', [(5,), (7, 5), (2, 3, 4, 5)])
def test_agrees_with_the_formula(shape, bias):
    x, weight, inner, out_weight, outer = tensors(bias=bias, shape=shape)
    hidden = x @ weight.T + (inner if bias else 0)
    activated = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in hidden.flatten().tolist()]
    activated = torch.tensor(activated, dtype=x.dtype).view(hidden.shape)
    expected = activated @ out_weight.T + (outer if bias else 0)
    assert torch.allclose(mlp(x, weight, inner, out_weight, outer), expected)


@pytest.mark.parametrize('bias', [False, True])
def test_gradients(bias):
    given = [t if t is None else t.requires_grad_() for t in tensors(bias=bias)]
    assert torch.autograd.gradcheck(mlp, given)


def test_parameters_are_used_in_the_dtype_of_the_map():
    x, *parameters = tensors(torch.bfloat16)
    y = mlp(x, *(p.float() for p in parameters))
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, mlp(x, *parameters))


def test_autocast_tells_the_dtype_but_of_float64():
    given = tensors()
    expected = mlp(*(t.to(torch.float16) for t in given))
    with torch.autocast('cpu', torch.float16):
        assert torch.equal(mlp(*(t.float() for t in given)), expected)
        assert torch.equal(mlp(*given), mlp(*tensors()))
        assert mlp(*given).dtype == torch.float64


@pytest.mark.parametrize(
    ('position', 'value', 'error', 'words'),
    [
        (0, torch.tensor(1.0), ValueError, 'x must have an axis of channels'),
        (0, torch.ones(2, 3, 5, dtype=torch.int64), TypeError, 'x must be real floating point'),
        (1, torch.rand(5), ValueError, r'weight must be a \(D, E\) tensor'),
        (1, None, ValueError, r'weight must be a \(D, E\) tensor'),
        (1, torch.rand(4, 4), ValueError, 'weight must have shape'),
        (2, torch.rand(5), ValueError, r'bias must have shape \(4,\)'),
        (2, 1.0, TypeError, 'bias must be a tensor'),
        (3, torch.rand(6, 5), ValueError, 'out_weight must have shape'),
        (4, torch.rand(4), ValueError, r'out_bias must have shape \(6,\)'),
    ],
)
def test_wrong_arguments(position, value, error, words):
    arguments = list(tensors())
    arguments[position] = value
    with pytest.raises(error, match=words):
        mlp(*arguments)
