"""Helpers for the arguments of all kernels in CUDA C++."""

import ctypes
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..directions import Direction
from ..gpu.maps import Grid

__all__ = [
    'MOST_WARPS',
    'NUMBERS',
    'Map',
    'choose_warps',
    'copied_at_once',
    'loads_at_once',
    'make_map',
    'within_reach',
]

NUMBERS = {torch.float32: 'float', torch.bfloat16: 'bfloat16', torch.float16: 'float16'}
"""The kernels' names for dtypes."""


class Map(ctypes.Structure):
    """The structure ``Map`` in lanes.cuh."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ('batch', 'height', 'width', 'channels', 'directions')),
        *((name, ctypes.c_uint) for name in ('reverse', 'along_h')),
        *((name, ctypes.c_int) for name in ('segments', 'segment_steps')),
    ]


def make_map(
    grid: Grid, walks: Sequence[Direction], segments: int = 1, segment_steps: int = 2**31 - 1
) -> Map:
    """Describe the maps of a launch in several directions, with lanes in segments or whole."""
    reverse = sum(walk.reverse << k for k, walk in enumerate(walks))
    along_h = sum((walk.axis == 1) << k for k, walk in enumerate(walks))
    return Map(*grid, len(walks), reverse, along_h, segments, segment_steps)


MOST_WARPS = 4
"""Most warps of a block whose warps work side by side along the channels."""


def choose_warps(columns: int, most: int = MOST_WARPS) -> int:
    """Choose the warps of a block so that few are idle.

    Args:
        columns: Warps that are needed side by side for all channels.
        most: Most warps for which there is room; at least one.
    """
    return min(range(min(most, MOST_WARPS), 0, -1), key=lambda warps: -(-columns // warps) * warps)


def loads_at_once(count: int, tensors: Iterable[tuple[Tensor | None, int]]) -> bool:
    """Whether ``count`` neighbouring numbers may be loaded at once from each token.

    Args:
        count: How many numbers.
        tensors: Tensors, each with the elements from one token to the next; None for a tensor that
            is missing.
    """
    return all(
        t is None or (t.data_ptr() % (count * t.element_size()) == 0 and token % count == 0)
        for t, token in tensors
    )


def copied_at_once(columns: int, tensors: Iterable[tuple[Tensor | None, int]]) -> int:
    """Bytes of the longest copies by which ``columns`` neighbouring numbers can be copied.

    Args:
        columns: Numbers of each token.
        tensors: See :func:`loads_at_once`. All given tensors have the same dtype.
    """
    numbers = [
        n
        for t, token in tensors
        if t is not None
        for n in (t.data_ptr(), columns * t.element_size(), token * t.element_size())
    ]
    return math.gcd(16, *numbers)


def within_reach(grid: Grid, token: int) -> bool:
    """Whether 32-bit offsets reach across an image whose tokens are ``token`` elements apart."""
    return grid.height * grid.width * token < 2**31
