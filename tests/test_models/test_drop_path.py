"""Stochastic depth as a factor of the sum is mmcv's, with the same random numbers."""

import pytest
import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import nn

from mmv2m.models.layers import MixerBlock, Stage
from mmv2m.models.layers.drop_path import drop_later
from mmv2m.models.layers.stream import Stream


def make_stage(rate):
    torch.manual_seed(0)
    blocks = [
        MixerBlock(8, nn.Linear(8, 8), rate, dict(type=kind), ffn_ratio=2)
        for kind in ('LN', 'RMSNorm')
    ]
    return Stage(*blocks).double().train()


@pytest.mark.parametrize('rate', [0.0, 0.5, 0.9])
def test_blocks_with_waiting_sums_are_blocks(rate):
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
    drop_path, branch = DropPath(0.5).train(), torch.ones(64, 1, 1, 1, dtype=torch.bfloat16)
    same, factor = drop_later(nn.Identity(), drop_path, branch)
    assert same is branch and factor.dtype == torch.float32
    assert set(factor.tolist()) == {0.0, 2.0}
    total = Stream(torch.ones(64, 1, 1, 1), branch, factor).sum()
    assert total.dtype == torch.float32
    assert torch.equal(total.flatten(), 1 + factor)
    for idle in (DropPath(0.0).train(), DropPath(0.5).eval()):
        assert drop_later(nn.Identity(), idle, branch) == (branch, None)


def test_a_hook_on_drop_path_is_called():
    stage, seen = make_stage(0.5), []
    drop_path = stage[0].drop_path
    drop_path.register_forward_hook(lambda module, args, output: seen.append(output))
    stage[1].ffn.dropout_layer = nn.Identity()
    stage(torch.randn(2, 3, 4, 8, dtype=torch.float64))
    assert len(seen) == 1
