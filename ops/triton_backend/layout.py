"""What the functions that launch Triton kernels share: layouts of maps and groups of directions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor
from triton import knobs

from ..directions import get_direction

__all__ = [
    'DirectionGroup',
    'Grid',
    'check_into',
    'dot_dtype',
    'dot_options',
    'even_parts',
    'group_directions',
    'token_layout',
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


class DirectionGroup(NamedTuple):
    """Directions along one axis, which one launch serves.

    Attributes:
        along_h: Whether the axis is H.
        directions: How many they are.
        packed: Their positions among all directions of the call, four bits each.
        reverse: One bit each: whether the walk starts at the axis' end.
    """

    along_h: bool
    directions: int
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
        members = [k for k, name in enumerate(directions) if get_direction(name).axis == axis]
        if members:
            packed = sum(k << (4 * i) for i, k in enumerate(members))
            reverse = sum(get_direction(directions[k]).reverse << i for i, k in enumerate(members))
            groups.append(DirectionGroup(axis == 1, len(members), packed, reverse))
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


def check_into(into: Tensor | None, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Check a tensor, if there is one, that a result is to be left in or added to.

    Raises:
        ValueError: If its tokens are not equally far apart, or it is not of the result's shape and
            dtype.
    """
    if into is None:
        return
    fits = tuple(into.shape) == tuple(shape) and into.dtype == dtype
    if not fits or (into.numel() and token_layout(into)[0] is not into):
        raise ValueError(
            f'what a result is left in must be {dtype}, of shape {tuple(shape)}, with tokens '
            f'equally far apart, but is {into.dtype}, of shape {tuple(into.shape)}, with strides '
            f'{into.stride()}'
        )


def even_parts(length: int, most: int) -> int:
    """Steps of the parts, of at most ``most`` steps each, into which a walk is best cut.

    As few steps too many as possible, then as few parts.
    """
    candidates = range(min(length, most), max(0, min(length, most) // 2), -1)
    return min(candidates, key=lambda steps: -length % steps)


def dot_dtype(dtype: torch.dtype) -> tl.dtype:
    """Operands of matrix products; Triton's interpreter multiplies bfloat16 wrongly."""
    if dtype == torch.bfloat16 and knobs.runtime.interpret:
        return tl.float32
    return {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}.get(dtype, tl.float32)


def dot_options(dtype: torch.dtype) -> dict[str, Any]:
    """What a kernel that multiplies matrices of maps in this dtype is told of that."""
    precision = 'ieee' if dtype == torch.float32 else 'tf32'
    return dict(DOT_DTYPE=dot_dtype(dtype), PRECISION=precision)
