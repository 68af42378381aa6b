import naive
import pytest
import torch

from mmv2m.ops import gated_linear


def tensors(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, 2, 3, 4, 5, generator=generator).to(dtype)
    return x, z, torch.randn(6, 5, generator=generator).to(dtype)


def test_agrees_with_the_formula():
    x, z, weight = tensors()
    assert torch.allclose(gated_linear(x, z, weight), (x * naive.silu(z)) @ weight.T)


def test_gradients():
    assert torch.autograd.gradcheck(gated_linear, [t.requires_grad_() for t in tensors()])


def test_weights_of_another_dtype_and_autocast_keep_the_maps_dtype():
    x, z, weight = tensors(torch.bfloat16)
    expected = gated_linear(x, z, weight)
    with torch.autocast('cpu', torch.float16):
        assert torch.equal(gated_linear(x, z, weight.float()), expected)


@pytest.mark.parametrize(
    ('position', 'value', 'error', 'words'),
    [
        (0, torch.rand(2, 5), ValueError, r'x must be a \(B, H, W, E\) map'),
        (1, None, TypeError, 'z must be a tensor'),
        (1, torch.rand(2, 3, 4, 5), TypeError, 'z is torch.float32 but x is'),
        (2, torch.rand(5), ValueError, r'weight must be a \(D, E\) tensor'),
        (2, None, ValueError, r'weight must be a \(D, E\) tensor'),
        (2, torch.rand(5, 6), ValueError, 'weight must have shape'),
    ],
)
def test_wrong_arguments(position, value, error, words):
    arguments = list(tensors())
    arguments[position] = value
    with pytest.raises(error, match=words):
        gated_linear(*arguments)
