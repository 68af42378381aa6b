import pytest
import torch
from torch import nn

from mmv2m.models.layers import SameDtypeLayerNorm, Stream


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
