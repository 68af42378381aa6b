"""The norms' backward pass in CUDA C++: its arguments, and its launch."""

import ctypes
import math

import torch
from torch import Tensor

from ..gpu.norms import image_rows
from ..runtime.launch import Launch, address, launch, multiprocessors
from .arguments import NUMBERS, loads_at_once

__all__ = ['norm_gradients']

HELD = 4
"""Neighbouring channels that a thread loads at once."""

WARPS = 4
"""Of a block."""

BLOCKS = {3: 5, 6: 3, 12: 2}
"""Of a multiprocessor, by how many times HELD channels a thread may have of a row: as many as have
registers enough."""


class Norm(ctypes.Structure):
    """``Norm`` of the kernel."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('grad_normed', 'grad_total', 'total')),
        *((name, ctypes.c_void_p) for name in ('weight', 'offset', 'factor')),
        *((name, ctypes.c_void_p) for name in ('grad_branch', 'grad_residual')),
        ('grad_residual_like_branch', ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ('grad_weight', 'grad_bias', 'grad_offset')),
        *((name, ctypes.c_int) for name in ('rows', 'image_rows', 'lanes')),
        ('eps', ctypes.c_float),
    ]


def norm_gradients(
    grad_normed: Tensor,
    grad_total: Tensor | None,
    total: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    factor: Tensor | None,
    grad_branch: Tensor,
    grad_residual: Tensor | None,
    eps: float,
) -> list[Tensor | None]:
    """See :func:`mmv2m.ops.triton.norm.norm_gradients`.

    This takes channels in multiples of 4 times a power of two, of which a thread has few enough:
    3, 6 or 12 times 4 of them, where 32 have a row together.
    """
    channels = total.shape[-1]
    lanes = math.gcd(32, channels // HELD)
    chunks = channels // (HELD * lanes) if channels % HELD == 0 and channels else 0
    maps = [grad_normed, grad_total, total, grad_branch, grad_residual]
    blocks = next((blocks for most, blocks in BLOCKS.items() if chunks <= most), 0)
    whole = loads_at_once(HELD, [(t, channels) for t in maps])
    if not (chunks and blocks and whole and 0 < total.numel() < channels * 2**31):
        return NotImplemented
    rows = total.numel() // channels
    of_image = image_rows(rows, factor)
    together = WARPS * 32 // lanes
    programs = min(-(-rows // together), blocks * multiprocessors(total.device))
    grad_weight = weight.new_empty((programs, channels))
    grad_bias, grad_offset = (
        None if p is None else torch.empty_like(grad_weight) for p in (bias, offset)
    )
    definitions = dict(
        NUMBER=NUMBERS[grad_normed.dtype],
        TOTAL=NUMBERS[total.dtype],
        HAS_RESIDUAL=grad_residual is not None,
        CENTERED=bias is not None,
        CHUNKS=chunks,
        WARPS=WARPS,
        BLOCKS=blocks,
    )
    offset = None if offset is None else offset.contiguous()
    factor = None if factor is None else factor.contiguous()
    read = (grad_normed, grad_total, total, weight.contiguous(), offset, factor)
    like_branch = grad_residual is not None and grad_residual.dtype != torch.float32
    streams = (None, grad_residual) if like_branch else (grad_residual, None)
    written = (grad_branch, *streams, grad_weight, grad_bias, grad_offset)
    launch(
        Launch(
            'norm_backward.cu',
            tuple(definitions.items()),
            (programs, 1),
            32 * WARPS,
            4 * WARPS * channels,
            (Norm(*map(address, (*read, *written)), rows, of_image, lanes, eps),),
        ),
        total.device,
    )
    return [grad_weight, grad_bias, grad_offset]
