"""Stochastic depth as a factor of the sum does what mmcv's layer does."""

import pytest
import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import nn

from mmv2m.models.layers import MixerBlock, Stage, drop_path
from mmv2m.models.layers.drop_path import DropLater
from mmv2m.models.layers.stream import Stream


def make_stage(rate):
    torch.manual_seed(0)
    blocks = [
        MixerBlock(8, nn.Linear(8, 8), rate, dict(type=kind), ffn_ratio=2)
        for kind in ('LN', 'RMSNorm')
    ]
    return Stage(*blocks).double().train()


def as_mmcv_draws(monkeypatch):
    """Have each branch's factors drawn when it is asked for them, by mmcv's layer."""

    class OneByOne(DropLater):
        def __call__(self, drop_path, branch):
            ones = torch.ones(branch.shape[0], 1, 1, 1, dtype=torch.float64)
            factor = drop_path(ones).flatten()
            return branch, factor if drop_path.drop_prob else None

    monkeypatch.setattr('mmv2m.models.layers.mixer_block.DropLater', OneByOne)


@pytest.mark.parametrize('rate', [0.0, 0.5, 0.9])
def test_blocks_with_waiting_sums_are_blocks(rate, monkeypatch):
    as_mmcv_draws(monkeypatch)
    stage = make_stage(rate)
    x = torch.randn(16, 3, 4, 8, dtype=torch.float64, requires_grad=True)
    found = []
    for run in (stage, lambda x: stage[1](stage[0](x))):
        torch.manual_seed(1)
        y = run(x)
        found.append([y, *torch.autograd.grad(y.sin().sum(), [x, *stage.parameters()])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    torch.manual_seed(2)
    assert torch.equal(stage(x), found[0][0]) == (rate == 0)


def test_dropped_images_are_left_out():
    layer, branch = DropPath(0.5).train(), torch.ones(64, 1, 1, 1, dtype=torch.bfloat16)
    same, factor = DropLater(nn.Identity(), 1)(layer, branch)
    assert same is branch and factor.dtype == torch.float32
    assert set(factor.tolist()) == {0.0, 2.0}
    total = Stream(torch.ones(64, 1, 1, 1), branch, factor).sum()
    assert total.dtype == torch.float32
    assert torch.equal(total.flatten(), 1 + factor)
    for idle in (DropPath(0.0).train(), DropPath(0.5).eval()):
        assert DropLater(nn.Identity(), 1)(idle, branch) == (branch, None)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_each_branch_of_each_image_is_dropped_by_itself(dtype):
    torch.manual_seed(0)
    images, keep = 20000, 0.8
    branch = torch.empty(images, 1, 1, 8, dtype=dtype)
    drop_later = DropLater(nn.Identity(), 2)
    factors = torch.stack([drop_later(DropPath(1 - keep).train(), branch)[1] for _ in range(2)])
    assert factors.dtype == torch.promote_types(dtype, torch.float32)
    kept = factors > 0
    torch.testing.assert_close(factors[kept], torch.full_like(factors[kept], 1 / keep))
    error = 5 * (keep * (1 - keep) / images) ** 0.5
    assert (kept.double().mean(1) - keep).abs().max() < error
    assert abs(kept.all(0).double().mean() - keep**2) < error


def test_each_branch_has_its_own_rate():
    torch.manual_seed(0)
    branch, drop_later = torch.ones(64, 1, 1, 8), DropLater(nn.Identity(), 2)
    for rate in (0.5, 0.75):
        _, factor = drop_later(DropPath(rate).train(), branch)
        assert set(factor.tolist()) == {0.0, 1 / (1 - rate)}


@pytest.mark.parametrize('images', [1, 2, 5, 8])
def test_factors_lie_as_new_tensors_do(images):
    """Kernels are compiled for addresses that are multiples of 16 bytes, and again for others."""
    for factor in drop_path.draw_factors(2, torch.ones(images, 1, 1, 8), 0.5):
        assert factor.shape == (images,) and factor.is_contiguous()
        assert factor.data_ptr() % 16 == 0


def test_a_hook_on_drop_path_is_called():
    stage, seen = make_stage(0.5), []
    stage[0].drop_path.register_forward_hook(lambda module, args, output: seen.append(output))
    stage[1].ffn.dropout_layer = nn.Identity()
    stage(torch.randn(2, 3, 4, 8, dtype=torch.float64))
    assert len(seen) == 1
