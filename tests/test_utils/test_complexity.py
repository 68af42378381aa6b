import pytest

from mmv2m.models import V2M
from mmv2m.utils.complexity import measure_complexity


def measure(**settings):
    arch = dict(embed_dims=32, depths=(1, 0, 0, 0), state_dims=4)
    return measure_complexity(
        V2M(arch, img_size=16, patch_size=4, out_indices=0, class_token='mean', **settings),
        (16, 16),
    )


def test_counted_by_hand():
    tokens, width, inner, states, rank, taps, patch = 16, 32, 64, 4, 2, 4, 4 * 4 * 3
    half = inner * (taps + rank + states + rank)
    products = tokens * (patch * width + width * 2 * inner + 4 * 2 * half + inner * width)
    cost = measure(scan_backend='reference')
    assert cost.flops['matmul+conv'] == products
    assert cost.flops['matmul+conv+scan'] == products + 9 * tokens * inner * states * 4 * 2


def test_fused_operators_count_the_same():
    pytest.importorskip('triton')
    assert measure(scan_backend='triton') == measure(scan_backend='reference')
