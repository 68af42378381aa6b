"""Laying out buffers in one allocation, where two that are never needed at a time share a place."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ['Buffer', 'lay_out']

ALIGNMENT = 512
"""Bytes; that of PyTorch's own allocations on GPUs."""


class Buffer(NamedTuple):
    """Memory that is needed from one launch to another.

    Attributes:
        size: Bytes.
        first: The first launch that uses it.
        last: The last one.
    """

    size: int
    first: int
    last: int

    def meets(self, other: 'Buffer') -> bool:
        """Whether there is a launch during which both are needed."""
        return self.first <= other.last and other.first <= self.last


def lay_out(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """Where each buffer begins, and the size of all together, in bytes.

    The largest first, each goes to the lowest place that is free for as long as it is needed.
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
