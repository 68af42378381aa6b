"""Layouts of (B, H, W, E) maps, and directions sorted by their axis."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..directions import Direction

__all__ = [
    'AxisWalks',
    'Grid',
    'by_axis',
    'check_target',
    'even_parts',
    'power_of_two',
    'token_layout',
    'without_gaps',
]


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

    def length(self, axis: int) -> int:
        """Tokens of a lane along an axis, 1 or 2."""
        return self.height if axis == 1 else self.width

    def lanes(self, axis: int) -> int:
        """Lanes of the whole batch along an axis."""
        return self.batch * (self.width if axis == 1 else self.height)


class AxisWalks(NamedTuple):
    """Some of a call's directions: those along one axis.

    Attributes:
        axis: The axis, 1 (H) or 2 (W).
        members: Their positions among all directions of the call.
        walks: The directions.
    """

    axis: int
    members: tuple[int, ...]
    walks: tuple[Direction, ...]

    def length(self, grid: Grid) -> int:
        """Steps of a lane."""
        return grid.length(self.axis)

    def lanes(self, grid: Grid) -> int:
        """Lanes of the whole batch, for one direction."""
        return grid.lanes(self.axis)


def by_axis(directions: Sequence[Direction]) -> list[AxisWalks]:
    """Sort directions by the axis they walk along, W first."""
    groups = []
    for axis in (2, 1):
        members = tuple(k for k, walk in enumerate(directions) if walk.axis == axis)
        if members:
            groups.append(AxisWalks(axis, members, tuple(directions[k] for k in members)))
    return groups


def token_layout(x: Tensor) -> tuple[Tensor, int]:
    """A map whose tokens are equally far apart, with that distance in elements.

    Args:
        x: (B, H, W, E) or (K, B, H, W, E), any strides.

    Returns:
        ``x`` itself where its channels are contiguous and its tokens equally far apart, as in a
        chunk of a projection's output; otherwise a contiguous copy.
    """
    distance, tokens = x.stride(-2), 1
    regular = x.stride(-1) == 1 and distance >= x.shape[-1]
    for size, stride in zip(x.shape[-2::-1], x.stride()[-2::-1], strict=True):
        regular = regular and (size == 1 or stride == distance * tokens)
        tokens *= size
    return (x, distance) if regular else (x.contiguous(), x.shape[-1])


def without_gaps(*parameters: Any) -> list[Any]:
    """Parameters as kernels read them, number after number; None stays None.

    A row of a parameter, say, or one that is expanded, has another distance between its numbers.
    """
    return [None if p is None else p.contiguous() for p in parameters]


def check_target(target: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Check a tensor, if there is one, that a result is written or added to.

    Raises:
        ValueError: If its tokens are not equally far apart, or it is not of the result's shape and
            dtype.
    """
    if target is None:
        return
    fits = tuple(target.shape) == tuple(shape) and target.dtype == dtype
    if not fits or (target.numel() and token_layout(target)[0] is not target):
        raise ValueError(
            f'what a result is written to must be {dtype}, of shape {tuple(shape)}, with tokens '
            f'equally far apart, but is {target.dtype}, of shape {tuple(target.shape)}, with '
            f'strides {target.stride()}'
        )


def even_parts(length: int, most: int) -> int:
    """Steps of the parts, of at most ``most`` steps each, into which a walk is best cut.

    As few steps too many as possible, then as few parts.
    """
    candidates = range(min(length, most), max(0, min(length, most) // 2), -1)
    return min(candidates, key=lambda steps: -length % steps)


def power_of_two(n: int) -> int:
    """``n`` rounded up to a power of two; at least 1."""
    return 1 << max(0, n - 1).bit_length()
