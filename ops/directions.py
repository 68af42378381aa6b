"""Names for the ways in which layers, operators and kernels walk over a (B, H, W, E) map.

A :class:`Direction` is one walk. A :class:`Corner` is a place where the 2D SSM starts: it walks in
one direction, then in another. A :class:`CornerGroup` holds corners that share parameters. All
three are immutable values. Operators of torch.library take them as text, such as ``'right,left'``
or ``'right-down,left-up;down-left'``; the ``write_*`` and ``read_*`` functions here convert them.
Kernels take them as bits, which the functions that launch kernels pack.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

__all__ = [
    'CORNERS',
    'DIRECTIONS',
    'Corner',
    'CornerGroup',
    'Direction',
    'get_direction',
    'read_corners',
    'read_directions',
    'write_corners',
    'write_directions',
]


class Direction(NamedTuple):
    """One way to walk over a (B, H, W, E) map.

    Attributes:
        axis: The axis of the walk: 1 (H, within columns) or 2 (W, within rows).
        reverse: Whether the walk starts at the end of the axis.
        name: The direction's key in :data:`DIRECTIONS`, which holds all directions.
    """

    axis: int
    reverse: bool
    name: str

    @property
    def lanes(self) -> int:
        """The other spatial axis, whose positions are independent of each other."""
        return 3 - self.axis

    @property
    def opposite(self) -> 'Direction':
        """The direction of the same walk backwards."""
        return next(d for d in DIRECTIONS.values() if d[:2] == (self.axis, not self.reverse))

    def steps(self, length: int) -> Sequence[int]:
        """Positions along the axis in the order of the walk."""
        return range(length - 1, -1, -1) if self.reverse else range(length)


DIRECTIONS: dict[str, Direction] = {
    'right': Direction(2, False, 'right'),
    'left': Direction(2, True, 'left'),
    'down': Direction(1, False, 'down'),
    'up': Direction(1, True, 'up'),
}


def get_direction(name: str | Direction) -> Direction:
    """Look up a direction by its name; a :class:`Direction` is returned as it is.

    Raises:
        ValueError: If no direction has that name.
    """
    if isinstance(name, Direction):
        return name
    if not isinstance(name, str) or name not in DIRECTIONS:
        raise ValueError(f'direction must be one of {", ".join(DIRECTIONS)}, but got {name!r}')
    return DIRECTIONS[name]


class Corner(NamedTuple):
    """The corner of the map from which one 2D SSM starts.

    In the paper, a 2D SSM from another corner than the upper left is a rotation of the grid before
    and after the SSM (V2M, Eq. 13-15). That is the same as a walk in two other directions, so no
    map is ever rotated.

    Attributes:
        first: Direction of the first scan, which has the input projection B.
        second: Direction of the second scan, which has the output projection C.
        flip: Axes of the gated (B, H, W, E) output that layers flip before they sum outputs. The
            paper flips none, and operators flip none.
    """

    first: Direction
    second: Direction
    flip: tuple[int, ...] = ()

    @classmethod
    def of(cls, first: str, second: str, flip: tuple[int, ...] = ()) -> 'Corner':
        """Make a corner from the names of its directions."""
        return cls(get_direction(first), get_direction(second), flip)


CORNERS: dict[str, Corner] = {
    'UL': Corner.of('right', 'down'),
    'LR': Corner.of('left', 'up'),
    'UR': Corner.of('down', 'left'),
    'LL': Corner.of('up', 'right'),
}
"""The corners in the order in which the paper's Table 4 adds them."""


# It is no NamedTuple, because torch.compile of PyTorch 2.9 cannot iterate over what a NamedTuple's
# properties return.
@dataclass(frozen=True)
class CornerGroup:
    """Corners that share their parameters.

    Attributes:
        corners: The corners.
        window: Side of the windows in tokens; 0 for the whole map.
    """

    corners: tuple[Corner, ...]
    window: int = 0

    @property
    def first(self) -> tuple[Direction, ...]:
        """Directions of the first scans."""
        return tuple(corner.first for corner in self.corners)

    @property
    def second(self) -> tuple[Direction, ...]:
        """Directions of the second scans."""
        return tuple(corner.second for corner in self.corners)


def write_directions(directions: Iterable[str | Direction]) -> str:
    """Write directions as text, such as ``'right,left'``.

    Raises:
        ValueError: If no direction has one of the names.
    """
    return ','.join(get_direction(direction).name for direction in directions)


@cache
def read_directions(text: str) -> tuple[Direction, ...]:
    """Undo :func:`write_directions`."""
    return tuple(map(get_direction, text.split(',')))


def write_corners(groups: Iterable[Iterable[Corner]]) -> str:
    """Write groups of corners as text, such as ``'right-down,left-up;down-left'``."""
    return ';'.join(','.join(f'{c.first.name}-{c.second.name}' for c in group) for group in groups)


@cache
def read_corners(text: str) -> tuple[CornerGroup, ...]:
    """Undo :func:`write_corners`."""
    groups = ([corner.split('-') for corner in group.split(',')] for group in text.split(';'))
    return tuple(
        CornerGroup(tuple(Corner.of(first, second) for first, second in group)) for group in groups
    )
