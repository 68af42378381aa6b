"""The exact GELU of a map with a bias, forward and backward, and sums over the rows of a map."""

import triton
import triton.language as tl

from .elementary import normal

__all__ = ['column_sums_kernel', 'gelu_backward_kernel', 'gelu_forward_kernel']


@triton.jit
def find_columns(columns, BLOCK_C: tl.constexpr):
    """The columns of a program, by its second axis, and whether each exists."""
    column = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    return column, column < columns


@triton.jit
def find_tile(tile, rows, columns, column, valid, BLOCK_R: tl.constexpr):
    """The offsets of the numbers in a tile of rows, and whether each exists."""
    row = (tile * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)[:, None]
    return row * columns + column[None, :], (row < rows) & valid[None, :]


@triton.jit
def load_bias(bias, column, valid):
    """Load a bias as (1, columns) in float32, or zeros without a bias."""
    if bias is None:
        value = tl.zeros_like(column).to(tl.float32)
    else:
        value = tl.load(bias + column, valid, 0).to(tl.float32)
    return value[None, :]


@triton.jit(do_not_specialize=['rows'])
def gelu_forward_kernel(x, bias, y, rows, columns, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Compute ``y = u * Phi(u)`` with ``u = x + bias``.

    Shapes: x and y (rows, E); bias (E,) or None. Grid: (row tiles, blocks of columns).
    """
    column, valid = find_columns(columns, BLOCK_C)
    where, inside = find_tile(tl.program_id(0), rows, columns, column, valid, BLOCK_R)
    value = tl.load(x + where, inside, 0).to(tl.float32) + load_bias(bias, column, valid)
    share, _ = normal(value)
    tl.store(y + where, (value * share).to(y.dtype.element_ty), inside)


@triton.jit(do_not_specialize=['rows', 'tiles'])
def gelu_backward_kernel(
    grad,
    x,
    bias,
    y,
    grad_bias,
    rows,
    columns,
    tiles,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Compute ``y`` as in the forward kernel, and replace its gradient ``grad`` by that of ``x``.

    A program owns a block of columns. The programs along the rows take the ``tiles`` of rows in
    turn.

    Shapes: grad, x and y (rows, E); bias (E,) or None; grad_bias (programs along the rows, E),
    float32, partial sums, or None. Grid: (programs along the rows, blocks of columns).
    """
    column, valid = find_columns(columns, BLOCK_C)
    shift = load_bias(bias, column, valid)
    # Each number of a tile has a sum of its own, so that rows are added up only once.
    sums = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        where, inside = find_tile(tile, rows, columns, column, valid, BLOCK_R)
        value = tl.load(x + where, inside, 0)
        slope = tl.load(grad + where, inside, 0).to(tl.float32)
        value = value.to(tl.float32) + shift
        share, density = normal(value)
        tl.store(y + where, (value * share).to(y.dtype.element_ty), inside)
        slope *= share + value * density
        tl.store(grad + where, slope.to(grad.dtype.element_ty), inside)
        if grad_bias is not None:
            sums += slope
    if grad_bias is not None:
        tl.store(grad_bias + tl.program_id(0) * columns + column, tl.sum(sums, axis=0), valid)


@triton.jit(do_not_specialize=['rows', 'tiles'])
def column_sums_kernel(x, sums, rows, columns, tiles, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sum ``x``, (rows, D), over some rows, to (programs along the rows, D), float32.

    Programs and grid are those of :func:`gelu_backward_kernel`.
    """
    column, valid = find_columns(columns, BLOCK_C)
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        where, inside = find_tile(tile, rows, columns, column, valid, BLOCK_R)
        total += tl.load(x + where, inside, 0).to(tl.float32)
    tl.store(sums + tl.program_id(0) * columns + column, tl.sum(total, axis=0), valid)
