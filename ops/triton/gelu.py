"""Launching the GELU kernels."""

import torch
import triton
from torch import Tensor

from .kernels.gelu import column_sums_kernel, gelu_backward_kernel, gelu_forward_kernel
from .launch import launch

__all__ = ['column_sums', 'gelu_forward', 'gelu_gradients']

ROWS, COLUMNS = 8, 128
"""Of a program's tile: in half precision, one load of 16 bytes a thread. A program that reads only
one map takes twice as many rows."""

PROGRAMS = 1056
"""Programs that share out the tiles of the backward pass, at most: eight for each of some 130
multiprocessors. Those along the rows each leave a partial sum of the bias's gradient."""


def gelu_forward(x: Tensor, bias: Tensor | None) -> Tensor:
    """``GELU(x + bias)``; x (..., E), bias (E,) or None."""
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        tiles, blocks = _tiles(x, 2 * ROWS)
        launch(
            gelu_forward_kernel,
            (tiles, blocks),
            *(x, _contiguous(bias), y, x.numel() // x.shape[-1], x.shape[-1]),
            BLOCK_R=2 * ROWS,
            BLOCK_C=COLUMNS,
            num_warps=4,
        )
    return y


def gelu_gradients(grad: Tensor, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """``GELU(x + bias)`` again, while the gradient of ``x`` takes the place of its own.

    Args:
        grad: Gradient of ``GELU(x + bias)``, (rows, E), contiguous; is overwritten with that of
            ``x``.
        x: (rows, E).
        bias: (E,), or None.

    Returns:
        ``GELU(x + bias)``, and partial sums of the gradient of ``bias``, in float32, still to be
        summed over their first axis; None without one.
    """
    x, bias = x.contiguous(), _contiguous(bias)
    y = torch.empty_like(x)
    tiles, blocks = _tiles(x, ROWS)
    programs = _programs(tiles, blocks)
    grad_bias = None
    if bias is not None:
        grad_bias = x.new_empty((programs, x.shape[-1]), dtype=torch.float32)
    if x.numel():
        launch(
            gelu_backward_kernel,
            (programs, blocks),
            *(grad, x, bias, y, grad_bias, *x.shape, tiles),
            BLOCK_R=ROWS,
            BLOCK_C=COLUMNS,
            num_warps=4,
        )
    return y, grad_bias


def column_sums(x: Tensor) -> Tensor:
    """Partial sums over the rows, still to be summed over their first axis."""
    x = x.contiguous()
    tiles, blocks = _tiles(x, 2 * ROWS)
    programs = _programs(tiles, blocks)
    sums = x.new_empty((programs, x.shape[-1]), dtype=torch.float32)
    if x.numel():
        launch(
            column_sums_kernel,
            (programs, blocks),
            *(x, sums, *x.shape, tiles),
            BLOCK_R=2 * ROWS,
            BLOCK_C=COLUMNS,
            num_warps=4,
        )
    return sums


def _tiles(x: Tensor, rows: int) -> tuple[int, int]:
    """Tiles of ``rows`` rows each, and blocks of columns."""
    columns = x.shape[-1]
    return triton.cdiv(x.numel() // max(1, columns), rows), triton.cdiv(columns, COLUMNS)


def _programs(tiles: int, blocks: int) -> int:
    """Along the rows; none where there are no rows."""
    return min(tiles, max(1, PROGRAMS // max(1, blocks)))


def _contiguous(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()
