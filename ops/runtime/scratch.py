"""The layout of buffers in one allocation, in which buffers with disjoint lifetimes may overlap."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ['Buffer', 'lay_out']

ALIGNMENT = 512
"""Alignment of buffers in bytes, which is the one of PyTorch's own allocations on GPUs."""


class Buffer(NamedTuple):
    """Memory that is needed from one launch to another.

    Attributes:
        size: Its size in bytes.
        first: The first launch that uses it.
        last: The last launch that uses it.
    """

    size: int
    first: int
    last: int

    def meets(self, other: 'Buffer') -> bool:
        """Whether both buffers are needed during the same launch."""
        return self.first <= other.last and other.first <= self.last


def lay_out(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """Choose where each buffer begins, in bytes, and return also the size of all together.

    Beginning with the largest buffer, each gets the lowest place that is free while it is needed.
    """
    starts = [0] * len(buffers)
    placed: list[int] = []
    for i in sorted(range(len(buffers)), key=lambda i: -buffers[i].size):
        beside = sorted(
            (starts[j], _end(starts, buffers, j)) for j in placed if buffers[i].meets(buffers[j])
        )
        for begin, end in beside:
            if begin - starts[i] >= buffers[i].size:
                break
            starts[i] = max(starts[i], end)
        placed.append(i)
    return starts, max((_end(starts, buffers, j) for j in placed), default=0)


def _end(starts: Sequence[int], buffers: Sequence[Buffer], i: int) -> int:
    return starts[i] + -(-buffers[i].size // ALIGNMENT) * ALIGNMENT
