"""How Triton's kernels are told which way to walk, and how exact matrix products are."""

from typing import Any

import torch
import triton.language as tl
from triton import knobs

from ..gpu.maps import AxisWalks

__all__ = ['dot_dtype', 'dot_options', 'pack_walks']


def pack_walks(walks: AxisWalks) -> tuple[int, int, int]:
    """The directions of a launch as the kernels take them.

    Returns:
        Positions of the directions among all of the call, four bits each; which of them are walked
        from the axis' end, one bit each; and whether the axis is H.
    """
    positions = sum(k << (4 * i) for i, k in enumerate(walks.members))
    reverse = sum(walk.reverse << i for i, walk in enumerate(walks.walks))
    return positions, reverse, int(walks.axis == 1)


def dot_dtype(dtype: torch.dtype) -> tl.dtype:
    """Operands of matrix products; Triton's interpreter multiplies bfloat16 wrongly."""
    if dtype == torch.bfloat16 and knobs.runtime.interpret:
        return tl.float32
    return {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}.get(dtype, tl.float32)


def dot_options(dtype: torch.dtype) -> dict[str, Any]:
    """Options of a kernel that multiplies matrices of maps in this dtype."""
    precision = 'ieee' if dtype == torch.float32 else 'tf32'
    return dict(DOT_DTYPE=dot_dtype(dtype), PRECISION=precision)
