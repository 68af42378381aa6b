"""The four directions in which an operator can walk over a (B, H, W, E) map."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ['DIRECTIONS', 'Direction', 'get_direction']


class Direction(NamedTuple):
    """One way to walk over a (B, H, W, E) map.

    Attributes:
        axis: The axis walked along: 1 (H, within columns) or 2 (W, within rows).
        reverse: Whether the walk starts at the axis' end.
    """

    axis: int
    reverse: bool

    @property
    def lanes(self) -> int:
        """The other spatial axis, whose positions are independent of each other."""
        return 3 - self.axis

    @property
    def opposite(self) -> 'Direction':
        """The same walk backwards."""
        return self._replace(reverse=not self.reverse)

    def steps(self, length: int) -> Sequence[int]:
        """Positions along the axis in the order of the walk."""
        return range(length - 1, -1, -1) if self.reverse else range(length)


DIRECTIONS: dict[str, Direction] = {
    'right': Direction(axis=2, reverse=False),
    'left': Direction(axis=2, reverse=True),
    'down': Direction(axis=1, reverse=False),
    'up': Direction(axis=1, reverse=True),
}


def get_direction(name: str) -> Direction:
    """Look a direction up by its name.

    Raises:
        ValueError: If there is no direction of that name.
    """
    if name not in DIRECTIONS:
        raise ValueError(f'direction must be one of {", ".join(DIRECTIONS)}, but got {name!r}')
    return DIRECTIONS[name]
