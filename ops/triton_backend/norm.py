"""Launching the kernels that normalise a map, or a sum of a branch and the residual stream."""

from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor

from ..reference import state_dtype
from .kernels.norm import norm_backward_kernel, norm_forward_kernel
from .launch import launch
from .sums import SumRows, sum_rows

__all__ = [
    'add_norm_backward',
    'add_norm_forward',
    'image_rows',
    'norm_backward',
    'norm_forward',
    'norm_gradients',
]

TILE, TILE_BACKWARD = 1024, 2048
"""Numbers of a program's tile, at least one row."""

PROGRAMS = 528
"""Programs that share out the tiles of the backward pass, at most."""

Gradients = Callable[..., list[Tensor | None]]
"""A function like :func:`norm_gradients`."""


def norm_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, offset: Tensor | None, eps: float
) -> Tensor:
    """See :func:`mmv2m.ops.channel_norm`."""
    x = x.contiguous()
    normed = torch.empty_like(x)
    _launch_forward(x, None, weight, bias, offset, None, normed, None, eps)
    return normed


def norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    eps: float,
    gradients: Gradients | None = None,
    sum_rows: SumRows = sum_rows,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``x, weight, bias, offset``, the first in the dtype of ``grad``."""
    x, grad = x.contiguous(), grad.contiguous()
    grad_x = torch.empty_like(grad)
    run = gradients or norm_gradients
    return grad_x, *sum_rows(run(grad, None, x, weight, bias, offset, None, grad_x, None, eps))


def add_norm_forward(
    branch: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """See :func:`mmv2m.ops.add_norm`."""
    branch, residual = branch.contiguous(), residual.contiguous()
    normed, total = torch.empty_like(branch), torch.empty_like(branch, dtype=state_dtype(branch))
    _launch_forward(branch, residual, weight, bias, None, factor, normed, total, eps)
    return normed, total


def add_norm_backward(
    grad_normed: Tensor,
    grad_total: Tensor,
    total: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    eps: float,
    begins: bool = False,
    gradients: Gradients | None = None,
    sum_rows: SumRows = sum_rows,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``branch, residual, weight, bias``, the first in the dtype of its output.

    If the stream ``begins`` with the residual, this has the dtype of the branch.
    """
    grad_normed, grad_total = grad_normed.contiguous(), grad_total.contiguous()
    grad_branch = torch.empty_like(grad_normed)
    grad_residual = torch.empty_like(grad_branch if begins else total)
    read = (grad_normed, grad_total, total, weight, bias, None, factor)
    *partial, _ = (gradients or norm_gradients)(*read, grad_branch, grad_residual, eps)
    return grad_branch, grad_residual, *sum_rows(partial)


def _launch_forward(
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
    if not branch.numel():
        return
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
    """Gradients of :func:`norm_forward` or, with a residual, :func:`add_norm_forward`.

    Args:
        grad_normed: (..., D), contiguous, as all maps here.
        grad_total: Likewise, float32; None without a residual.
        total: Likewise; what was normalised, without the offset.
        weight: (D,).
        bias: (D,), or None.
        offset: (D,), or None; only without a residual.
        factor: (B,), or None: what each image's branch was multiplied by.
        grad_branch: Is written to.
        grad_residual: Is written to; None without a residual.
        eps: As there.

    Returns:
        Gradients of weight, bias and offset: partial sums, still to be summed over their first
        axis.
    """
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


def image_rows(rows: int, factor: Tensor | None) -> int:
    """How many of a map's rows an image has; 1 where nobody asks."""
    return max(1, rows // factor.numel()) if factor is not None and factor.numel() else 1


def _options(x: Tensor, bias: Tensor | None, tile: int) -> dict[str, Any]:
    width = triton.next_power_of_2(max(1, x.shape[-1]))
    rows = max(1, tile // width)
    return dict(CENTERED=bias is not None, BLOCK_R=rows, BLOCK_D=width, num_warps=4)
