import pytest
import torch
from scan_inputs import make_ssm_inputs

from mmv2m import ops
from mmv2m.ops import (
    CORNERS,
    DIRECTIONS,
    Corner,
    CornerGroup,
    Group,
    Halves,
    ScanNorm,
    corner_ssm,
    ss2d,
)
from mmv2m.ops.directions import (
    get_direction,
    read_corners,
    read_directions,
    write_corners,
    write_directions,
)
from mmv2m.ops.groups import pack_groups, unpack_groups


@pytest.mark.parametrize('name', DIRECTIONS)
def test_a_direction_is_found_by_its_name_or_itself(name):
    direction = get_direction(name)
    assert direction.name == name and get_direction(direction) is direction
    assert direction.opposite.axis == direction.axis == 3 - direction.lanes
    assert direction.opposite.reverse != direction.reverse
    assert [*direction.steps(3)] == ([2, 1, 0] if direction.reverse else [0, 1, 2])


def test_unknown_directions_are_refused():
    with pytest.raises(ValueError, match="one of right, left, down, up, but got 'north'"):
        get_direction('north')
    with pytest.raises(ValueError, match=r"but got \['right'\]"):
        get_direction(['right'])


def test_directions_as_text():
    assert write_directions(['up', DIRECTIONS['left']]) == 'up,left'
    assert read_directions('up,left') == (DIRECTIONS['up'], DIRECTIONS['left'])


def test_corners_as_text():
    opposite = [(CORNERS['UL'], CORNERS['LR']), (CORNERS['UR'],)]
    assert write_corners(opposite) == 'right-down,left-up;down-left'
    groups = read_corners('right-down,left-up;down-left')
    assert [group.corners for group in groups] == opposite
    assert [d.name for d in groups[0].first] == ['right', 'left']
    assert [d.name for d in groups[0].second] == ['down', 'up']


def test_corners_start_where_both_walks_do():
    """UL starts at the left and at the top, and so on; each walks along both axes."""
    for name, (first, second, flip) in CORNERS.items():
        assert {first.axis, second.axis} == {1, 2} and not flip
        rows, columns = (d for axis in (1, 2) for d in (first, second) if d.axis == axis)
        assert name == ('L' if rows.reverse else 'U') + ('R' if columns.reverse else 'L')


def test_groups_are_packed_and_unpacked():
    one, two = (
        Group([*range(i, i + 7)], [*range(i + 7, i + 14)], g)
        for i, g in ((0, read_corners('right-down')[0]), (14, read_corners('up-left,up-right')[0]))
    )
    parameters, corners = pack_groups([one, two])
    assert parameters == [*range(28)] and corners == 'right-down;up-left,up-right'
    assert [*unpack_groups(parameters, corners)] == [one, two]


def test_a_group_needs_all_parameters():
    group = Halves([None] * 7, [None] * 6, ['right'], ['down'])
    with pytest.raises(ValueError, match='has 7 parameters, conv_weight to D, but there are 7 and'):
        corner_ssm(torch.rand(1, 2, 3, 4), None, [group])


@pytest.mark.parametrize(
    ('corners', 'error', 'words'),
    [
        (('UL',), TypeError, r"must be a CornerGroup, but are \('UL',\)"),
        (CornerGroup(()), ValueError, 'at least one corner'),
        (CornerGroup((CORNERS['UL'],), window=2), ValueError, 'has no windows'),
        (CornerGroup((Corner.of('right', 'down', (1,)),)), ValueError, 'flips nothing'),
    ],
)
def test_corners_that_a_group_cannot_have(corners, error, words):
    with pytest.raises(error, match=words):
        corner_ssm(torch.rand(1, 2, 3, 4), None, [Group([None] * 7, [None] * 7, corners)])


def test_a_mixers_norm_needs_a_bias():
    _, _, *half = make_ssm_inputs(channels=4).values()
    groups = [Halves(half, half, ['right'], ['down'])]
    weights = (torch.rand(4, 4), torch.rand(4, 4))
    norm = ScanNorm(torch.ones(4), None)  # would be an RMSNorm on some backends
    with pytest.raises(TypeError, match="the norm's bias must be a tensor, but is NoneType"):
        ss2d(torch.rand(1, 2, 3, 4), *weights, groups, norm)


def test_names_of_earlier_versions():
    assert ops.mixer_2d is ops.ss2d and ops.ssm_2d is ops.corner_ssm
    group = Halves([1], [2], ('right', 'left'), ('down', 'up'))
    assert group.corners.corners == (Corner.of('right', 'down'), Corner.of('left', 'up'))
    with pytest.raises(ValueError, match='a second direction for each first one, but there are 1'):
        Halves([1], [2], ('right',), ('down', 'up'))
    with pytest.raises(ValueError, match='a sequence of names'):
        Halves([1], [2], 'right', ('down',))
