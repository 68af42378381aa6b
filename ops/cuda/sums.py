"""Finishing partial sums, many in one launch."""

import ctypes
from collections.abc import Sequence

from torch import Tensor

from ..runtime.launch import Launch, address, launch

__all__ = ['PARTS', 'sum_rows']

PARTS = 8
"""Matrices that a launch sums."""

WARPS = 16
"""Of a block, which sums 32 columns, or 32 for each warp, where there are few rows."""

DEPTH = 8
"""Rows that a thread has under way together."""


class Part(ctypes.Structure):
    """``Part`` of the kernel."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('source', 'target')),
        *((name, ctypes.c_int) for name in ('rows', 'columns', 'first_block')),
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
        parts[i] = Part(address(partial.contiguous()), address(total), rows, columns, blocks)
        blocks += -(-columns // (32 if rows > DEPTH else 32 * WARPS))
    launch(
        Launch(
            'sum_rows.cu',
            (('PARTS', PARTS), ('WARPS', WARPS), ('DEPTH', DEPTH)),
            (blocks, 1),
            32 * WARPS,
            4 * 32 * WARPS,
            (parts, ctypes.c_int(len(pairs))),
        ),
        pairs[0][0].device,
    )
