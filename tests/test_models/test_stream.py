import pytest
import torch
from torch import nn

from mmv2m.models.layers import Downsample, SameDtypeLayerNorm, Stage, Stream


@pytest.mark.parametrize(
    'norm', [nn.RMSNorm(6), nn.RMSNorm(6, eps=0.1), nn.LayerNorm(6), nn.LayerNorm(6, bias=False)]
)
@pytest.mark.parametrize('with_branch', [False, True])
def test_norm_of_the_sum(norm, with_branch):
    total, branch = torch.randn(2, 2, 3, 4, 6)
    nn.init.normal_(norm.weight)
    stream = Stream(total, branch if with_branch else None)
    expected = total + branch if with_branch else total
    normed, summed = stream.normed(norm, norm)
    assert torch.allclose(normed, norm(expected), atol=1e-6)
    assert torch.equal(summed, expected)
    assert torch.equal(stream.sum(), expected)


def test_half_precision_models_keep_a_float32_stream():
    total, branch = torch.randn(2, 2, 3, 4, 6).bfloat16()
    norm = nn.RMSNorm(6).bfloat16()
    normed, summed = Stream(total).normed(norm, norm)
    assert (normed.dtype, summed.dtype) == (torch.bfloat16, torch.float32)
    normed, again = Stream(summed, branch).normed(norm, norm)
    assert (normed.dtype, again.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(again, total.float() + branch.float())


def test_what_begins_in_half_precision_is_not_copied():
    total, branch = torch.randn(2, 2, 3, 4, 6).bfloat16()
    norm = SameDtypeLayerNorm(6).bfloat16()
    normed, begun = Stream(total).normed(norm, norm)
    assert normed.dtype == torch.bfloat16
    assert begun is total
    normed, again = Stream(begun, branch).normed(norm, norm)
    assert (normed.dtype, again.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(again, total.float() + branch.float())


HALF, WIDE = torch.bfloat16, torch.float32


def summands(with_factor, branch_dtype):
    torch.manual_seed(0)
    total = torch.randn(3, 5, 4, 6, requires_grad=True)
    branch = torch.randn(3, 5, 4, 6).to(branch_dtype).requires_grad_()
    return total, branch, torch.tensor([0.0, 1.25, 1.25]) if with_factor else None


@pytest.mark.parametrize('dtype', [HALF, WIDE, None])
@pytest.mark.parametrize('branch_dtype', [HALF, WIDE])
@pytest.mark.parametrize('with_factor', [False, True])
def test_the_sum_is_rounded_once_in_either_direction(with_factor, branch_dtype, dtype):
    total, branch, factor = summands(with_factor, branch_dtype)
    scale = 1 if factor is None else factor.view(-1, 1, 1, 1)
    expected = (total + branch.float() * scale).to(dtype or WIDE)
    grad = torch.randn_like(expected)
    grads = torch.autograd.grad(expected, (total, branch), grad)
    with torch.autocast('cpu', HALF):
        y = Stream(total, branch, factor).sum(dtype)
    assert y.dtype == expected.dtype
    torch.testing.assert_close(y, expected)
    found = torch.autograd.grad(y, (total, branch), grad)
    for one, other in zip(found, grads, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other)


def test_the_sum_can_be_differentiated_again_and_transformed():
    total, branch, factor = summands(True, WIDE)

    def loss(total, branch):
        return Stream(total, branch, factor).sum().pow(3).sum()

    def squared(*grads):
        return sum(grad.square().sum() for grad in grads)

    inputs = total, branch
    grads = torch.autograd.grad(loss(*inputs), inputs, create_graph=True)
    again = torch.autograd.grad(squared(*grads), inputs)
    by_transform = torch.func.grad(lambda *x: squared(*torch.func.grad(loss, (0, 1))(*x)), (0, 1))
    torch.testing.assert_close(again, by_transform(*inputs))


@pytest.mark.parametrize('watched', [False, True])
def test_what_reads_half_precision_gets_the_sum_in_it(watched, monkeypatch):
    """But a hook is shown the map that a stage hands from block to block."""
    seen, stage = [], Stage(Downsample(6, 4, dict(type='SameDtypeLN')))
    monkeypatch.setattr(stage, '_checkpointed', lambda run, x: seen.append(x.dtype) or run(x))
    total, branch, factor = summands(True, HALF)
    results = []
    for on in (False, True):
        if watched:
            stage[0].register_forward_pre_hook(lambda module, args: None)
        with torch.autocast('cpu', HALF, enabled=on):
            results.append(stage.advance(Stream(total, branch, factor)).sum())
    assert seen == [WIDE, WIDE if watched else HALF]
    torch.testing.assert_close(*results, atol=5e-2, rtol=5e-2)
