import pytest
import torch
import torch.nn.functional as F

from mmv2m.ops import add_norm


def tensors(dtype=torch.float64, bias=True):
    generator = torch.Generator().manual_seed(0)
    branch, residual = torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    weight, shift = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    exact = torch.promote_types(dtype, torch.float32)
    given = (branch.to(dtype), residual.to(exact), weight.to(exact), shift.to(exact))
    return given if bias else given[:3]


def test_agrees_with_the_formulas():
    branch, residual, weight, bias = tensors()
    total = residual + branch
    deviation = (total - total.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
    expected = (total - total.mean(-1, keepdim=True)) / (deviation + 1e-3).sqrt() * weight + bias
    normed, stream = add_norm(branch, residual, weight, bias, eps=1e-3)
    assert torch.allclose(normed, expected)
    assert torch.equal(stream, total)
    expected = total / (total.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    assert torch.allclose(add_norm(branch, residual, weight, eps=1e-3)[0], expected)


@pytest.mark.parametrize('bias', [False, True])
def test_gradients(bias):
    assert torch.autograd.gradcheck(add_norm, [t.requires_grad_() for t in tensors(bias=bias)])


@pytest.mark.parametrize('bias', [False, True])
def test_factor_of_each_image(bias):
    branch, residual, *parameters = (t.requires_grad_() for t in tensors(bias=bias))
    factor = torch.tensor([0.0, 1.25], dtype=torch.float64)
    found = add_norm(branch, residual, *parameters, factor=factor)
    expected = add_norm(branch * factor.view(2, 1, 1, 1), residual, *parameters)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    given = [branch, residual, *parameters]
    ours, theirs = (
        torch.autograd.grad(sum(o.sin().sum() for o in outs), given) for outs in (found, expected)
    )
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))
    with pytest.raises(ValueError, match='factor gets no gradient'):
        add_norm(branch, residual, *parameters, factor=factor.requires_grad_())
    with pytest.raises(ValueError, match='factor must have shape'):
        add_norm(branch, residual, *parameters, factor=torch.ones(3, dtype=torch.float64))


def test_half_precision_branch_beside_a_float32_stream():
    branch, residual, weight, bias = tensors(torch.bfloat16)
    with torch.autocast('cpu', torch.float16):
        normed, total = add_norm(branch, residual, weight, bias)
    assert (normed.dtype, total.dtype) == (torch.bfloat16, torch.float32)
    exact = F.layer_norm(residual + branch, (5,), weight, bias)
    assert torch.allclose(normed.float(), exact, rtol=1e-2, atol=1e-2)


def test_stream_that_begins_in_half_precision():
    branch, residual, weight, bias = tensors(torch.bfloat16)
    residual = residual.bfloat16().requires_grad_()
    normed, total = add_norm(branch, residual, weight, bias)
    expected, exact = add_norm(branch, residual.float(), weight, bias)
    assert torch.equal(normed, expected)
    assert torch.equal(total, exact)
    total.sum().backward()
    assert torch.equal(residual.grad, torch.ones_like(residual))


@pytest.mark.parametrize(
    ('position', 'value', 'error', 'words'),
    [
        (0, torch.rand(2, 5), ValueError, r'branch must be a \(B, H, W, E\) map'),
        (1, None, TypeError, 'residual must be a tensor'),
        (2, None, TypeError, 'weight must be a tensor'),
        (1, torch.rand(2, 3, 4, 5), TypeError, 'residual must be torch.float64 beside a'),
        (1, torch.rand(2, 3, 4, 6), ValueError, 'residual must have shape'),
        (2, torch.rand(6), ValueError, 'weight must have shape'),
        (3, torch.rand(6), ValueError, 'bias must have shape'),
    ],
)
def test_wrong_arguments(position, value, error, words):
    arguments = list(tensors())
    arguments[position] = value
    with pytest.raises(error, match=words):
        add_norm(*arguments)
