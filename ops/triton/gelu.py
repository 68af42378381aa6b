"""Launches of the GELU kernels."""

import torch
import triton
from torch import Tensor

from ..gpu.maps import without_gaps
from .kernels.gelu import column_sums_kernel, gelu_backward_kernel, gelu_forward_kernel
from .launch import launch

__all__ = ['column_sums', 'gelu_forward', 'gelu_gradients']

ROWS, COLUMNS = 8, 128
"""Rows and columns of a program's tile. In half precision, each thread loads 16 bytes at once.

A program that reads only one map has twice as many rows.
"""

PROGRAMS = 1056
"""Most programs of the backward pass, eight for each of about 130 multiprocessors.

Each program along the rows leaves a partial sum of the bias's gradient.
"""


def gelu_forward(x: Tensor, bias: Tensor | None) -> Tensor:
    """Compute ``GELU(x + bias)`` for x, (..., E), and bias, (E,) or None."""
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        tiles, blocks = _tiles(x, 2 * ROWS)
        launch(
            gelu_forward_kernel,
            (tiles, blocks),
            *(x, *without_gaps(bias), y, x.numel() // x.shape[-1], x.shape[-1]),
            BLOCK_R=2 * ROWS,
            BLOCK_C=COLUMNS,
            num_warps=4,
        )
    return y


def gelu_gradients(grad: Tensor, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Compute ``GELU(x + bias)`` again, and turn its gradient into the gradient of ``x`` in place.

    Args:
        grad: Gradient of ``GELU(x + bias)``, (rows, E), contiguous. It is overwritten with the
            gradient of ``x``.
        x: (rows, E).
        bias: (E,), or None.

    Returns:
        ``GELU(x + bias)``, and partial sums of the gradient of ``bias`` in float32, which are still
        to be summed over their first axis; None without a bias.
    """
    x, bias = without_gaps(x, bias)
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
    """Compute partial sums over the rows, which are still to be summed over their first axis."""
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
    """The number of tiles of ``rows`` rows each, and of blocks of columns."""
    columns = x.shape[-1]
    return triton.cdiv(x.numel() // max(1, columns), rows), triton.cdiv(columns, COLUMNS)


def _programs(tiles: int, blocks: int) -> int:
    """The number of programs along the rows, which is 0 without rows."""
    return min(tiles, max(1, PROGRAMS // max(1, blocks)))
