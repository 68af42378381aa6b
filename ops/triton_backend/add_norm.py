"""Launching the kernels that add a branch to the residual stream and normalise the sum."""

from typing import Any

import torch
import triton
from torch import Tensor

from .kernels.add_norm import add_norm_backward_kernel, add_norm_forward_kernel
from .launch import launch
from .sums import SumRows, sum_rows

__all__ = ['add_norm_backward', 'add_norm_forward']

TILE, TILE_BACKWARD = 1024, 4096
"""Numbers of a program's tile, at least one row."""

PROGRAMS = 528
"""Programs that share out the tiles of the backward pass, at most."""


def add_norm_forward(
    branch: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """See :func:`mmv2m.ops.add_norm`."""
    branch, residual = branch.contiguous(), residual.contiguous()
    normed, total = torch.empty_like(branch), torch.empty_like(residual)
    options = _options(branch, bias, TILE)
    if branch.numel():
        rows = branch.numel() // branch.shape[-1]
        launch(
            add_norm_forward_kernel,
            (triton.cdiv(rows, options['BLOCK_R']),),
            *(branch, residual, weight, bias, normed, total, rows, branch.shape[-1], eps),
            **options,
        )
    return normed, total


def add_norm_backward(
    grad_normed: Tensor,
    grad_total: Tensor,
    total: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    sum_rows: SumRows = sum_rows,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``branch, residual, weight, bias``, the first in the dtype of its output."""
    grad_normed, grad_total = grad_normed.contiguous(), grad_total.contiguous()
    grad_branch, grad_residual = torch.empty_like(grad_normed), torch.empty_like(total)
    options = _options(total, bias, TILE_BACKWARD)
    channels = total.shape[-1]
    tiles = triton.cdiv(total.numel() // max(1, channels), options['BLOCK_R'])
    programs = min(tiles, PROGRAMS)
    grad_weight = weight.new_empty((programs, channels))
    grad_bias = None if bias is None else torch.empty_like(grad_weight)
    if total.numel():
        launch(
            add_norm_backward_kernel,
            (programs,),
            *(grad_normed, grad_total, total, weight),
            *(grad_branch, grad_residual, grad_weight, grad_bias),
            *(total.numel() // channels, channels, eps, tiles),
            **options,
        )
    return grad_branch, grad_residual, *sum_rows([grad_weight, grad_bias])


def _options(x: Tensor, bias: Tensor | None, tile: int) -> dict[str, Any]:
    width = triton.next_power_of_2(max(1, x.shape[-1]))
    rows = max(1, tile // width)
    return dict(CENTERED=bias is not None, BLOCK_R=rows, BLOCK_D=width, num_warps=4)
