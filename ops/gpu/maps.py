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
        """The sizes of the last four axes of ``x``."""
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
    """The directions of a call that walk along one axis.

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
    """Sort directions by the axis along which they walk, W first."""
    groups = []
    for axis in (2, 1):
        members = tuple(k for k, walk in enumerate(directions) if walk.axis == axis)
        if members:
            groups.append(AxisWalks(axis, members, tuple(directions[k] for k in members)))
    return groups


def token_layout(x: Tensor) -> tuple[Tensor, int]:
    """Return a map with tokens at equal distances, and that distance in elements.

    Args:
        x: (B, H, W, E) or (K, B, H, W, E), any strides.

    Returns:
        ``x`` itself if its channels are contiguous and its tokens are at equal distances, as in a
        chunk of a projection's output. Otherwise, it is copied.
    """
    distance, tokens = x.stride(-2), 1
    regular = x.stride(-1) == 1 and distance >= x.shape[-1]
    for size, stride in zip(x.shape[-2::-1], x.stride()[-2::-1], strict=True):
        regular = regular and (size == 1 or stride == distance * tokens)
        tokens *= size
    return (x, distance) if regular else (x.contiguous(), x.shape[-1])


def without_gaps(*parameters: Any) -> list[Any]:
    """Make parameters contiguous, as kernels read them; None stays None.

    A column of a parameter, for example, or an expanded one, is not contiguous.
    """
    return [None if p is None else p.contiguous() for p in parameters]


def check_target(target: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Check an optional tensor to which a result is written or added.

    Raises:
        ValueError: If its tokens are not at equal distances, or it does not have the result's shape
            and dtype.
    """
    if target is None:
        return
    fits = tuple(target.shape) == tuple(shape) and target.dtype == dtype
    if not fits or (target.numel() and token_layout(target)[0] is not target):
        raise ValueError(
            f'the tensor for a result must be {dtype}, of shape {tuple(shape)}, with tokens at '
            f'equal distances, but is {target.dtype}, of shape {tuple(target.shape)}, with '
            f'strides {target.stride()}'
        )


def even_parts(length: int, most: int) -> int:
    """Choose the number of steps of the parts into which a walk is cut, at most ``most``.

    The parts together have as few superfluous steps as possible, and there are as few parts as
    possible.
    """
    candidates = range(min(length, most), max(0, min(length, most) // 2), -1)
    return min(candidates, key=lambda steps: -length % steps)


def power_of_two(n: int) -> int:
    """Round ``n`` up to a power of two, at least 1."""
    return 1 << max(0, n - 1).bit_length()
