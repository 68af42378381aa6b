import pytest
import torch
import torch.nn.functional as F

from mmv2m.ops import channel_norm


def tensors(dtype=torch.float64, bias=True):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64).to(dtype)
    weight, shift = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    exact = torch.promote_types(dtype, torch.float32)
    return (x, weight.to(exact), shift.to(exact)) if bias else (x, weight.to(exact))


def test_agrees_with_the_formulas():
    x, weight, bias = tensors()
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    expected = centred / deviation * weight + bias
    assert torch.allclose(channel_norm(x, weight, bias, eps=1e-3), expected)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    assert torch.allclose(channel_norm(x, weight, eps=1e-3), expected)


def test_offset_is_added_first():
    x, weight, bias = tensors()
    offset = torch.randn(5, dtype=x.dtype)
    expected = channel_norm(x + offset, weight, bias)
    assert torch.allclose(channel_norm(x, weight, bias, offset=offset), expected)


@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('offset', [False, True])
def test_gradients(bias, offset):
    x, weight, *shift = (t.requires_grad_() for t in tensors(bias=bias))
    shift = [*shift, None][:1]
    more = torch.randn(5, dtype=x.dtype, requires_grad=True) if offset else None
    assert torch.autograd.gradcheck(channel_norm, [x, weight, *shift, 1e-5, more])


@pytest.mark.parametrize('bias', [False, True])
def test_stays_in_half_precision_under_autocast(bias):
    x, *parameters = tensors(torch.bfloat16, bias)
    with torch.autocast('cpu', torch.float16):
        y = channel_norm(x, *parameters)
    assert y.dtype == torch.bfloat16
    exact = (F.layer_norm if bias else F.rms_norm)(x.float(), (5,), *parameters)
    assert torch.allclose(y.float(), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ('position', 'value', 'error', 'words'),
    [
        (0, torch.ones(2, 5, dtype=torch.int64), TypeError, 'x must be real floating point'),
        (0, torch.tensor(1.0), ValueError, 'x must have an axis of channels'),
        (1, None, TypeError, 'weight must be a tensor'),
        (1, torch.rand(6), ValueError, 'weight must have shape'),
        (2, torch.rand(6), ValueError, 'bias must have shape'),
        (4, torch.rand(6), ValueError, 'offset must have shape'),
    ],
)
def test_wrong_arguments(position, value, error, words):
    arguments = [*tensors(), 1e-5, None]
    arguments[position] = value
    with pytest.raises(error, match=words):
        channel_norm(*arguments)
