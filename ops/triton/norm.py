"""Launching the kernels that normalise a map, or a sum of a branch and the residual stream."""

from typing import Any

import torch
import triton
from torch import Tensor

from ..gpu.maps import without_gaps
from ..gpu.norms import image_rows
from .kernels.norm import norm_backward_kernel, norm_forward_kernel
from .launch import launch

__all__ = ['norm_gradients', 'norm_rows']

TILE, TILE_BACKWARD = 1024, 2048
"""Numbers of a program's tile, at least one row."""

PROGRAMS = 528
"""Programs that share out the tiles of the backward pass, at most."""


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
    """Write the norm of each row, and the sum that is normalised if there is a residual.

    Args:
        branch: (..., D), contiguous, as all maps here.
        residual: Is added to ``branch`` times ``factor``; or None.
        weight: (D,).
        bias: (D,), or None for RMSNorm.
        offset: (D,), added to ``branch``; or None; only without a residual.
        factor: (B,), or None.
        normed: Is written to.
        total: Is written to; None without a residual.
        eps: Added to the mean square.
    """
    if not branch.numel():
        return
    weight, bias, offset, factor = without_gaps(weight, bias, offset, factor)
    options, channels = _options(branch, bias, TILE), branch.shape[-1]
    rows = branch.numel() // channels
    launch(
        norm_forward_kernel,
        (triton.cdiv(rows, options['BLOCK_R']),),
        *(branch, residual, weight, bias, offset, factor, normed, total),
        *(rows, image_rows(rows, factor), channels, eps),
        **options,
    )


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
    """Write gradients of the maps of :func:`norm_rows`, and return those of its parameters.

    Args:
        grad_normed: (..., D), contiguous, as all maps here.
        grad_total: (..., D), float32; None without a residual.
        total: (..., D); what was normalised, without the offset.
        weight: (D,).
        bias: (D,), or None.
        offset: (D,), or None; only without a residual.
        factor: (B,), or None: what each image's branch was multiplied by.
        grad_branch: Is written to.
        grad_residual: Is written to; None without a residual.
        eps: See :func:`norm_rows`.

    Returns:
        Gradients of weight, bias and offset: partial sums, still to be summed over their first
        axis.
    """
    weight, offset, factor = without_gaps(weight, offset, factor)
    options, channels = _options(total, bias, TILE_BACKWARD), total.shape[-1]
    rows = total.numel() // max(1, channels)
    tiles = triton.cdiv(rows, options['BLOCK_R'])
    programs = min(tiles, PROGRAMS)
    grad_weight = weight.new_empty((programs, channels))
    grad_bias, grad_offset = (
        None if p is None else torch.empty_like(grad_weight) for p in (bias, offset)
    )
    if total.numel():
        launch(
            norm_backward_kernel,
            (programs,),
            *(grad_normed, grad_total, total, weight, offset, factor),
            *(grad_branch, grad_residual, grad_weight, grad_bias, grad_offset),
            *(rows, image_rows(rows, factor), channels, eps, tiles),
            **options,
        )
    return [grad_weight, grad_bias, grad_offset]


def _options(x: Tensor, bias: Tensor | None, tile: int) -> dict[str, Any]:
    width = triton.next_power_of_2(max(1, x.shape[-1]))
    rows = max(1, tile // width)
    return dict(CENTERED=bias is not None, BLOCK_R=rows, BLOCK_D=width, num_warps=4)
