"""The norms in CUDA C++: arguments and launches of the kernels."""

import ctypes

import torch
from torch import Tensor

from ..gpu.maps import without_gaps
from ..gpu.norms import image_rows
from ..runtime.launch import Launch, address, launch, multiprocessors
from .arguments import NUMBERS, loads_at_once

__all__ = ['norm_gradients', 'norm_rows']

HELD = 4
"""Neighbouring channels that a thread loads at once."""

WARPS = 4
"""Warps of a block."""

BLOCKS = {3: 5, 6: 3, 12: 2}
"""Blocks of a multiprocessor, by the most chunks of HELD channels that a thread has of a row.

There are enough registers for that many blocks.
"""

MOST_CHUNKS = (6, 12)
"""Most chunks of HELD channels that a thread has of a row. The first number is used if possible.

Then all stages of a pyramid share a kernel, whose rows take 2 to 32 threads.
"""


class NormForward(ctypes.Structure):
    """The structure ``Norm`` of the forward kernel."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('branch', 'residual', 'residual_like_branch')),
        *((name, ctypes.c_void_p) for name in ('weight', 'bias', 'offset', 'factor')),
        *((name, ctypes.c_void_p) for name in ('normed', 'total')),
        *((name, ctypes.c_int) for name in ('rows', 'image_rows', 'lanes')),
        ('eps', ctypes.c_float),
    ]


def norm_rows(
    branch: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    factor: Tensor | None,
    normed: Tensor,
    total: Tensor | None,
    eps: float,
) -> None:
    """See :func:`mmv2m.ops.triton.norm.norm_rows`.

    The number of channels has to be a multiple of 4. Up to 32 threads share a row, and each has at
    most 12 times 4 of its channels. Maps and parameters have to be aligned so that 4 numbers can be
    loaded at once.
    """
    channels = branch.shape[-1]
    lanes = _fewest_lanes(channels)
    *parameters, factor = without_gaps(weight, bias, offset, factor)
    maps = (branch, residual, normed, total)
    whole = loads_at_once(HELD, ((t, channels) for t in (*maps, *parameters)))
    if not (lanes and whole and 0 < branch.numel() < channels * 2**30):
        return NotImplemented
    rows = branch.numel() // channels
    definitions = dict(
        NUMBER=NUMBERS[branch.dtype],
        CENTERED=bias is not None,
        CHUNKS=channels // (HELD * lanes),
        WARPS=WARPS,
    )
    exact = residual is not None and residual.dtype == torch.float32
    residuals = (residual, None) if exact else (None, residual)
    tensors = (branch, *residuals, *parameters, factor, normed, total)
    launch(
        Launch(
            'norm_forward.cu',
            tuple(definitions.items()),
            (-(-rows * lanes // (WARPS * 32)), 1),
            32 * WARPS,
            0,
            (NormForward(*map(address, tensors), rows, image_rows(rows, factor), lanes, eps),),
        ),
        branch.device,
    )


def _fewest_lanes(channels: int) -> int:
    """The fewest threads of a warp that can share a row, or 0 if a warp cannot hold a row."""
    pieces = channels // HELD if channels % HELD == 0 else 0
    lanes = (
        lanes
        for most in MOST_CHUNKS
        for lanes in (1, 2, 4, 8, 16, 32)
        if pieces % lanes == 0 and 0 < pieces // lanes <= most
    )
    return next(lanes, 0)


class NormBackward(ctypes.Structure):
    """The structure ``Norm`` of the backward kernel."""

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

    The number of channels has the same limits as for :func:`norm_rows`.
    """
    channels = total.shape[-1]
    lanes = _fewest_lanes(channels)
    maps = [grad_normed, grad_total, total, grad_branch, grad_residual]
    whole = loads_at_once(HELD, [(t, channels) for t in maps])
    if not (lanes and whole and 0 < total.numel() < channels * 2**31):
        return NotImplemented
    rows, chunks = total.numel() // channels, channels // (HELD * lanes)
    blocks = next(blocks for most, blocks in BLOCKS.items() if chunks <= most)
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
    read = (grad_normed, grad_total, total, *without_gaps(weight, offset, factor))
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
            (NormBackward(*map(address, (*read, *written)), rows, of_image, lanes, eps),),
        ),
        total.device,
    )
    return [grad_weight, grad_bias, grad_offset]
