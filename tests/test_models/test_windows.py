from functools import partial

import naive
import pytest
import torch

from mmv2m.models.layers import CORNERS, WindowSSM
from mmv2m.models.layers.corner_ssm import pad_to_windows, split_lanes
from mmv2m.ops import CornerGroup


def make(corners, window):
    torch.manual_seed(0)
    group = CornerGroup(tuple(CORNERS[c] for c in corners), window)
    return WindowSSM(5, 2, 1, 3, group).double()


@pytest.mark.parametrize('grid', [(4, 4), (2, 6), (5, 3), (1, 7)])
@pytest.mark.parametrize('window', [1, 2, 3])
@pytest.mark.parametrize('corners', [('UL', 'LR'), ('LL', 'UR'), ('LR',)])
def test_agrees_with_a_loop_over_windows(grid, window, corners):
    ssm = make(corners, window)
    x, z = torch.randn(2, 2, *grid, 5, dtype=torch.float64)
    for gate in (z, None):
        truth = sum(
            naive.in_windows(partial(naive.from_corner, ssm, corner=c), x, gate, window)
            for c in corners
        )
        y = ssm(x, gate)
        assert y.shape == x.shape
        assert naive.relative_error(y, truth) < 1e-10
        assert torch.equal(ssm(x, gate, reduction='none').sum(0), y)


def test_tokens_see_their_window_only():
    x = torch.randn(1, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    make(('UL', 'LR'), 2)(x, None)[0, 1, 2].sum().backward()
    seen = x.grad[0].abs().sum(-1) > 0
    assert set(map(tuple, seen.nonzero().tolist())) <= {(0, 2), (0, 3), (1, 2), (1, 3)}
    assert seen.sum() == 3  # all but the one that lies across the walk from both corners


@pytest.mark.parametrize('axis', [1, 2])
def test_whole_windows_are_views_of_a_projections_half(axis):
    layout = pytest.importorskip('mmv2m.ops.gpu.maps')
    x, _ = torch.randn(2, 4, 6, 10).chunk(2, -1)
    lanes = split_lanes(pad_to_windows(x, 2), 2, axis)
    assert lanes.shape == ((2, 12, 2, 5) if axis == 2 else (4, 2, 6, 5))
    assert layout.token_layout(lanes)[0].data_ptr() == x.data_ptr()


def test_maps_are_padded_at_the_bottom_and_the_right():
    x = torch.randn(1, 3, 4, 2)
    padded = pad_to_windows(x, 3)
    assert padded.shape == (1, 3, 6, 2)
    assert torch.equal(padded[:, :, :4], x)
    assert not padded[:, :, 4:].any()


def test_first_scans_along_both_axes_are_refused():
    with pytest.raises(ValueError, match='opposite corners; but the first scans walk right, down'):
        make(('UL', 'UR'), 2)
