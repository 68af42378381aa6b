"""What the functions that launch Triton kernels share: layouts of maps and groups of directions."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..directions import get_direction

__all__ = ['DirectionGroup', 'Grid', 'group_directions', 'reverse_bits', 'token_layout']


class Grid(NamedTuple):
    """The sizes of a (..., B, H, W, E) map."""

    batch: int
    height: int
    width: int
    channels: int

    @classmethod
    def of(cls, x: Tensor) -> 'Grid':
        """The sizes of ``x``, whatever stands before its last four axes."""
        return cls(*x.shape[-4:])

    @property
    def tokens(self) -> int:
        """Tokens of the whole batch."""
        return self.batch * self.height * self.width


class DirectionGroup(NamedTuple):
    """Directions along one axis, which one launch serves.

    Attributes:
        along_h: Whether the axis is H.
        members: Their positions among all directions of the call.
        packed: The same, four bits each.
        reverse: One bit each: whether the walk starts at the axis' end.
    """

    along_h: bool
    members: tuple[int, ...]
    packed: int
    reverse: int

    def length(self, grid: Grid) -> int:
        """Steps of a lane."""
        return grid.height if self.along_h else grid.width

    def lanes(self, grid: Grid) -> int:
        """Lanes of the whole batch."""
        return grid.batch * (grid.width if self.along_h else grid.height)


def group_directions(directions: Sequence[str]) -> list[DirectionGroup]:
    """Sort directions by the axis they walk along."""
    groups = []
    for axis in (2, 1):
        members = tuple(k for k, name in enumerate(directions) if get_direction(name).axis == axis)
        if members:
            packed = sum(k << (4 * i) for i, k in enumerate(members))
            reverse = reverse_bits([directions[k] for k in members])
            groups.append(DirectionGroup(axis == 1, members, packed, reverse))
    return groups


def reverse_bits(directions: Sequence[str]) -> int:
    """Bit i says whether direction i starts at its axis' end."""
    return sum(get_direction(name).reverse << i for i, name in enumerate(directions))


def token_layout(x: Tensor) -> tuple[Tensor, int]:
    """A map whose tokens are equally far apart, with that distance in elements.

    Args:
        x: (B, H, W, E) or (K, B, H, W, E), any strides.

    Returns:
        ``x`` itself where its channels are contiguous and its tokens equally far apart, as in a
        chunk of a projection's output; otherwise a contiguous copy.
    """
    distance = x.stride(-2)
    expected = torch.empty(x.shape[:-1], device='meta').stride()
    regular = x.stride(-1) == 1 and all(
        size == 1 or stride == distance * steps
        for size, stride, steps in zip(x.shape, x.stride(), expected, strict=False)
    )
    if regular and distance >= x.shape[-1]:
        return x, distance
    return x.contiguous(), x.shape[-1]
