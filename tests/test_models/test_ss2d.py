import naive
import pytest
import torch

from mmv2m.models import SS2D
from mmv2m.models.layers import CORNERS, plan_routes

CORNER_SETS = [tuple(CORNERS)[:n] for n in range(1, 5)]
GRIDS = [(3, 3), (2, 4), (5, 3), (1, 4)]


def make_mixer(**settings):
    torch.manual_seed(0)
    mixer = SS2D(6, states=3, **settings).double()
    for parameter in mixer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return mixer


def make_map(grid, batch=2):
    return torch.randn(batch, *grid, 6, dtype=torch.float64)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('corners', CORNER_SETS)
def test_agrees_with_the_paper(grid, corners):
    mixer, x = make_mixer(corners=corners), make_map(grid)
    assert naive.relative_error(mixer(x), naive.ss2d(mixer, x, corners)) < 1e-10


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('quarters', [1, 2, 3])
def test_four_corners_commute_with_quarter_turns(grid, quarters):
    mixer, x = make_mixer(), make_map(grid)
    turned = mixer(torch.rot90(x, quarters, (1, 2)))
    assert naive.relative_error(torch.rot90(turned, -quarters, (1, 2)), mixer(x)) < 1e-12


def test_fewer_corners_do_not_commute():
    mixer, x = make_mixer(corners=('UL', 'LR', 'UR')), make_map((3, 3))
    turned = torch.rot90(mixer(torch.rot90(x, 1, (1, 2))), -1, (1, 2))
    assert naive.relative_error(turned, mixer(x)) > 1e-3


def test_one_corner_sees_what_lies_between_it_and_the_token():
    mixer, x = make_mixer(corners=('LR',)), make_map((4, 5), batch=1).requires_grad_()
    mixer(x)[0, 1, 3].sum().backward()
    seen = x.grad[0].abs().sum(-1) > 0
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[1:, 3:] = True
    assert torch.equal(seen, expected)


def test_released_geometry_agrees_with_the_released_code():
    mixer, x = make_mixer(geometry='released'), make_map((4, 4))
    assert naive.relative_error(mixer(x), naive.released_ss2d(mixer, x)) < 1e-10


def test_released_geometry_refuses_other_grids():
    with pytest.raises(ValueError, match='square map, but got 3 x 4'):
        make_mixer(geometry='released')(make_map((3, 4)))


@pytest.mark.parametrize(
    ('corners', 'geometry', 'words'),
    [
        ((), 'paper', 'corners must be a sequence of UL, LR, UR, LL'),
        ('UL', 'paper', "but got 'UL'"),
        (('UL', 'middle'), 'paper', 'corners must be'),
        (('UL', 'UL'), 'paper', 'differ from each other'),
        (('UL',), 'released', 'four fixed branches'),
        (tuple(CORNERS), 'flat', "geometry must be one of paper, released, but got 'flat'"),
    ],
)
def test_impossible_routes(corners, geometry, words):
    with pytest.raises(ValueError, match=words):
        plan_routes(corners, geometry)


def test_corners_share_their_parameters():
    counts = {sum(p.numel() for p in make_mixer(corners=c).parameters()) for c in CORNER_SETS}
    assert len(counts) == 1
