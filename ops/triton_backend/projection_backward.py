"""Launching the backward kernels of the projection."""

from typing import Any

import torch
import triton
from torch import Tensor

from .kernels.projection_backward import project_back_kernel, time_step_back_kernel
from .layout import dot_dtype

__all__ = ['project_backward']

BLOCK_TOKENS, BLOCK_CHANNELS = 64, 128

PROGRAMS = 132
"""Programs along the tokens, at most: a gradient of the weights is a partial sum of each."""


def project_backward(
    grad_x: Tensor,
    grad_delta: Tensor,
    grad_sides: list[Tensor],
    x: Tensor,
    low_rank: Tensor,
    weight: Tensor,
    dt_weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`.projection.project`.

    Args:
        grad_x: What ``x`` gets from elsewhere, (..., E), contiguous; what comes through the
            projection is added in place.
        grad_delta: (..., E), of the time steps before bias and softplus, contiguous.
        grad_sides: One or two of B's and C's, each (..., N).
        x: As there, like the others.
        low_rank: What it returned.
        weight: As there.
        dt_weight: As there.

    Returns:
        Gradients of ``weight`` and ``dt_weight``.
    """
    channels, rank = dt_weight.shape
    tokens = x.numel() // channels if channels else 0
    if not tokens:
        return torch.zeros_like(weight), torch.zeros_like(dt_weight)
    tiles, blocks = triton.cdiv(tokens, BLOCK_TOKENS), triton.cdiv(channels, BLOCK_CHANNELS)
    grid = (blocks, min(tiles, PROGRAMS))
    common: dict[str, Any] = dict(
        BLOCK_T=BLOCK_TOKENS,
        BLOCK_E=BLOCK_CHANNELS,
        DOT_DTYPE=dot_dtype(x.dtype),
        PRECISION='ieee' if x.dtype == torch.float32 else 'tf32',
        num_warps=4,
    )
    grad_low = x.new_empty((blocks, tokens, rank), dtype=torch.float32)
    grad_dt_weight = x.new_empty((grid[1], *dt_weight.shape), dtype=torch.float32)
    time_step_back_kernel[grid](
        *(grad_delta, low_rank, dt_weight.contiguous(), grad_low, grad_dt_weight),
        *(tokens, channels, tiles),
        rank=rank,
        RANK=max(16, triton.next_power_of_2(rank)),
        **common,
    )
    sides = [side.reshape(tokens, -1) for side in grad_sides]
    projected = torch.cat((grad_low.sum(0), *sides), -1).to(x.dtype)
    grad_weight = x.new_empty((grid[1], *weight.shape), dtype=torch.float32)
    project_back_kernel[grid](
        *(projected, x, weight.contiguous(), grad_x, grad_weight),
        *(tokens, channels, tiles),
        width=weight.shape[0],
        WIDTH=max(16, triton.next_power_of_2(weight.shape[0])),
        **common,
    )
    return grad_weight.sum(0).to(weight.dtype), grad_dt_weight.sum(0).to(dt_weight.dtype)
