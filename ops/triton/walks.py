"""Arguments of Triton's kernels for directions, and for the precision of matrix products."""

from typing import Any

import torch
import triton.language as tl
from triton import knobs

from ..gpu.maps import AxisWalks

__all__ = ['dot_dtype', 'dot_options', 'pack_walks']


def pack_walks(walks: AxisWalks) -> tuple[int, int, int]:
    """Pack the directions of a launch for the kernels.

    Returns:
        The positions of the directions among all directions of the call, with four bits each; one
        bit for each that says whether it goes backwards; and whether the axis is H.
    """
    positions = sum(k << (4 * i) for i, k in enumerate(walks.members))
    reverse = sum(walk.reverse << i for i, walk in enumerate(walks.walks))
    return positions, reverse, int(walks.axis == 1)


def dot_dtype(dtype: torch.dtype) -> tl.dtype:
    """The dtype of factors of matrix products."""
    # Triton's interpreter multiplies bfloat16 wrongly.
    if dtype == torch.bfloat16 and knobs.runtime.interpret:
        return tl.float32
    return {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}.get(dtype, tl.float32)


def dot_options(dtype: torch.dtype) -> dict[str, Any]:
    """Options of a kernel that multiplies matrices of maps in a dtype."""
    precision = 'ieee' if dtype == torch.float32 else 'tf32'
    return dict(DOT_DTYPE=dot_dtype(dtype), PRECISION=precision)
