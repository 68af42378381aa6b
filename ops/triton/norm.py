"""Launches of the kernels that normalise a map, or a sum of a branch and the residual stream."""

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
"""Numbers in a program's tile of the forward and the backward kernel; it has at least one row."""

PROGRAMS = 528
"""Most programs of the backward pass."""


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
        branch: (..., D), contiguous, like all maps here.
        residual: (..., D), to which ``branch`` times ``factor`` is added; or None.
        weight: (D,).
        bias: (D,), or None for RMSNorm.
        offset: (D,), which is added to ``branch``, or None. It needs a ``residual`` of None.
        factor: (B,), or None for 1.
        normed: (..., D), to which the norm is written.
        total: (..., D), to which the sum is written; None without a residual.
        eps: Added to the variance, or to the mean square for RMSNorm.
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
    """Write gradients of the maps of :func:`norm_rows`, and return gradients of its parameters.

    Args:
        grad_normed: (..., D), contiguous, like all maps here.
        grad_total: (..., D), float32; None without a residual.
        total: (..., D), the normalised map, without the offset.
        weight: (D,).
        bias: (D,), or None.
        offset: (D,), or None.
        factor: (B,), or None.
        grad_branch: (..., D), to which the gradient is written.
        grad_residual: (..., D), to which the gradient is written; None without a residual.
        eps: See :func:`norm_rows`.

    Returns:
        Gradients of weight, bias and offset, as partial sums, (programs, D), which are still to be
        summed over their first axis. The last two are None if there is no such parameter.
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
