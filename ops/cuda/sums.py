"""Sums of partial sums, many of them in one launch."""

import ctypes
from collections.abc import Sequence

from torch import Tensor

from ..runtime.launch import Launch, address, launch

__all__ = ['PARTS', 'sum_rows']

PARTS = 8
"""Matrices that a launch sums."""

THREADS = 512
"""Threads of a block."""

DEPTH = 8
"""Rows that a thread loads at the same time."""

LEAST_WIDTH = 8
"""Fewest columns of a block. A GPU reads that many floats at once."""


class Part(ctypes.Structure):
    """The structure ``Part`` of the kernel."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('source', 'target')),
        *((name, ctypes.c_int) for name in ('rows', 'columns', 'width', 'first_block')),
    ]


def sum_rows(partial: Sequence[Tensor | None]) -> list[Tensor | None]:
    """See :func:`mmv2m.ops.triton.sums.sum_rows`; float32 only."""
    sums = [None if p is None else p.new_empty(p.shape[1:]) for p in partial]
    pairs = [
        (p, total)
        for p, total in zip(partial, sums, strict=True)
        if p is not None and total is not None and total.numel()
    ]
    for first in range(0, len(pairs), PARTS):
        _sum_some(pairs[first : first + PARTS])
    return sums


def _sum_some(pairs: list[tuple[Tensor, Tensor]]) -> None:
    parts, blocks = (Part * PARTS)(), 0
    for i, (partial, total) in enumerate(pairs):
        rows, columns = partial.shape[0], total.numel()
        width = _width(rows)
        parts[i] = Part(address(partial.contiguous()), address(total), rows, columns, width, blocks)
        blocks += -(-columns // width)
    launch(
        Launch(
            'sum_rows.cu',
            (('PARTS', PARTS), ('THREADS', THREADS), ('DEPTH', DEPTH)),
            (blocks, 1),
            THREADS,
            4 * THREADS,
            (parts, ctypes.c_int(len(pairs))),
        ),
        pairs[0][0].device,
    )


def _width(rows: int) -> int:
    """Columns of a block, a power of two for which a thread reads up to 2 DEPTH rows."""
    sharing = max(1, -(-rows // (2 * DEPTH)))
    return max(LEAST_WIDTH, THREADS >> (sharing - 1).bit_length())
