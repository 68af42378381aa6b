"""Sums over the channels of a program, for several steps at a time."""

import triton
import triton.language as tl

__all__ = ['store_sums']


@triton.jit
def store_sums(
    pointer,
    products,
    count: tl.constexpr,
    row,
    step,
    earliest,
    length,
    offset,
    states: tl.constexpr,
    GROUP: tl.constexpr,
    FAST: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
):
    """Sum ``count`` products, each (GROUP, channels), over channels, and store them by token.

    The last product belongs to the step ``earliest`` of the walk, and the product before it to the
    next step.
    """
    index = tl.arange(0, GROUP)
    if FAST:
        nothing = tl.zeros_like(products[0])
        padded = products
        for _ in tl.static_range(4 - count):
            padded = padded + (nothing,)
        sums = sum_of_four(padded[0], padded[1], padded[2], padded[3], DOT_DTYPE)
        which = tl.arange(0, 4 * GROUP)
        t = earliest + count - 1 - which % 4
        state = offset + which // 4
        used = (which % 4 < count) & (t < length) & (state < states)
        tl.store(pointer + (row + t * step) * states + state, sums, used)
    else:
        for s in tl.static_range(count):
            t = earliest + count - 1 - s
            used = (index < states - offset) & (t < length)
            where = pointer + (row + t * step) * states + offset + index
            tl.store(where, tl.sum(products[s], axis=1), used)


@triton.jit
def sum_of_four(a, b, c, d, DOT_DTYPE: tl.constexpr):
    """Sums over the channels of four (states, channels) tiles, (states * 4,), tiles fastest.

    A warp needs ten instructions per number to sum over its lanes. The matrix units need fewer, but
    round to DOT_DTYPE first. The gradients of half-precision inputs are rounded to it anyway.
    """
    rows = tl.join(tl.join(a, b), tl.join(c, d)).permute(0, 3, 2, 1)
    rows = rows.reshape(4 * a.shape[0], a.shape[1]).to(DOT_DTYPE)
    first_column = (tl.arange(0, 16) == 0).to(DOT_DTYPE)[None, :]
    return tl.sum(tl.dot(rows, tl.broadcast_to(first_column, (a.shape[1], 16))), axis=1)
