"""Launches of the backward kernels of the projection."""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from ..gpu.projections import COLUMNS, ProjectedGradient
from .kernels.projection_backward import (
    join_kernel,
    project_back_kernel,
    time_step_back_kernel,
)
from .launch import launch
from .walks import dot_options

__all__ = ['project_backward']

BLOCK_TOKENS = 64

STEP_CHANNELS, BLOCK_CHANNELS = 64, 128
"""Channels of a program of the time step's kernel, and of the projection's kernel."""

MOST_COLUMNS = 32
"""Most columns of a program.

Low ranks have half as many, so that the stages of a pyramid share kernels. The last stage has small
maps and more columns, which are divided among several programs.
"""

PROGRAMS = 264
"""Most programs, two for each of about 130 multiprocessors.

Each program along the tokens leaves a partial sum of the weights' gradients.
"""

NARROW = 16
"""Outputs of a projection up to which there are twice as many programs.

They hide more waiting time than their partial sums cost.
"""


def project_backward(
    grad_x: Tensor,
    grad_delta: Tensor,
    grad_sides: list[Tensor],
    x: Tensor,
    low_rank: Tensor,
    weight: Tensor,
    dt_weight: Tensor,
    adds: bool = True,
) -> tuple[Tensor, Tensor, ProjectedGradient]:
    """Compute gradients of :func:`.projection.project`; see :class:`.kernels.Kernels`.

    Args:
        grad_x: The other part of the gradient of ``x``, (..., E), contiguous.
        grad_delta: Gradient of the time steps before bias and softplus, (..., E), contiguous.
        grad_sides: Gradients of B, of C, or of both, each (any number, ..., N) in float32. They are
            partial sums, to be summed over their first axis.
        x: See :func:`.projection.project`.
        low_rank: The low-rank time steps that :func:`.projection.project` has returned.
        weight: See :func:`.projection.project`.
        dt_weight: See :func:`.projection.project`.
        adds: Whether to add the projection's part to ``grad_x``, in place.

    Returns:
        Gradients of ``weight`` and ``dt_weight``, and the projection's part of the gradient of
        ``x``. The first two are partial sums in float32, which are still to be summed over their
        first axis.
    """
    channels, rank = dt_weight.shape
    tokens = x.numel() // channels if channels else 0
    if not tokens:
        nothing = x.new_empty((0, triton.cdiv(len(weight), COLUMNS) * COLUMNS))
        empty = torch.zeros_like(weight)[None], torch.zeros_like(dt_weight)[None]
        return *empty, ProjectedGradient(nothing, weight)
    tiles = triton.cdiv(tokens, BLOCK_TOKENS)
    most = 2 * PROGRAMS if len(weight) <= NARROW else PROGRAMS
    common: dict[str, Any] = dict(BLOCK_T=BLOCK_TOKENS, **dot_options(x.dtype), num_warps=4)
    steps = (grad_delta, low_rank, dt_weight)
    grad_low, grad_dt_weight = _time_step_backward(*steps, tokens, tiles, most, common)
    projected, width = _join(grad_low, grad_sides, rank), len(weight)
    blocks = triton.cdiv(channels, BLOCK_CHANNELS)
    held = max(COLUMNS, triton.next_power_of_2(width)) if adds else MOST_COLUMNS
    grid = (blocks, min(tiles, max(1, most // blocks)), triton.cdiv(width, held))
    grad_weight = x.new_empty((grid[1], *weight.shape), dtype=torch.float32)
    launch(
        project_back_kernel,
        grid,
        *(projected, x, weight.contiguous(), grad_x, grad_weight),
        *(tokens, channels, tiles, width, projected.shape[1]),
        WIDTH=held,
        ADDS=adds,
        BLOCK_E=BLOCK_CHANNELS,
        num_stages=2,
        **common,
    )
    return grad_weight, grad_dt_weight, ProjectedGradient(projected, weight)


def _time_step_backward(
    grad_delta: Tensor,
    low_rank: Tensor,
    dt_weight: Tensor,
    tokens: int,
    tiles: int,
    most: int,
    common: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Compute partial sums of the gradients of ``low_rank`` and ``dt_weight``.

    Args:
        grad_delta: See :func:`project_backward`.
        low_rank: See :func:`project_backward`.
        dt_weight: See :func:`project_backward`.
        tokens: Tokens of the map.
        tiles: Tiles of tokens.
        most: Most programs.
        common: Options that all kernels share.
    """
    channels, rank = dt_weight.shape
    blocks = triton.cdiv(channels, STEP_CHANNELS)
    held = COLUMNS if rank <= COLUMNS else MOST_COLUMNS
    grid = (blocks, min(tiles, max(1, most // blocks)), triton.cdiv(rank, held))
    # They have the dtype of the numbers that they are sums of. In float32, they would be a tenth of
    # all memory traffic here.
    grad_low = grad_delta.new_empty((blocks, tokens, triton.cdiv(rank, 4) * 4))
    grad_dt_weight = grad_delta.new_empty((grid[1], *dt_weight.shape), dtype=torch.float32)
    launch(
        time_step_back_kernel,
        grid,
        *(grad_delta, low_rank, dt_weight.contiguous(), grad_low, grad_dt_weight),
        *(tokens, channels, tiles, rank),
        ALIGNED=math.gcd(rank, 2 if held == COLUMNS else 8),
        RANK=held,
        BLOCK_E=STEP_CHANNELS,
        **common,
    )
    return grad_low, grad_dt_weight


def _join(grad_low: Tensor, grad_sides: list[Tensor], rank: int) -> Tensor:
    """Sum and join the parts of ``grad`` of :class:`ProjectedGradient`."""
    tokens, states = grad_low.shape[1], grad_sides[0].shape[-1]
    columns = triton.cdiv(rank + len(grad_sides) * states, COLUMNS) * COLUMNS
    projected = grad_low.new_empty((tokens, columns))
    launch(
        join_kernel,
        (triton.cdiv(tokens, BLOCK_TOKENS), columns // COLUMNS),
        *(grad_low, grad_sides[0], grad_sides[-1], projected, tokens),
        *(grad_low.shape[0], grad_sides[0].shape[0], rank, columns),
        ALIGNED=math.gcd(rank, states, 4),
        states=states,
        SIDES=len(grad_sides),
        BLOCK_T=BLOCK_TOKENS,
        BLOCK_C=COLUMNS,
        num_warps=4,
    )
    return projected
