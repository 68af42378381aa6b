"""The projection of each token to the low rank of its time step, and to B and C (the sides)."""

import triton
import triton.language as tl

__all__ = ['projection_kernel']


@triton.jit(do_not_specialize=['tokens'])
def projection_kernel(
    x,
    weight,
    low_rank,
    sides,
    tokens,
    channels,
    rank: tl.constexpr,
    RANK: tl.constexpr,
    states: tl.constexpr,
    STATES: tl.constexpr,
    SIDES: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute ``low_rank, sides = x @ weight.T``.

    A program owns a tile of tokens, and walks over the channels.

    Shapes: x (tokens, E); weight (rank + SIDES * states, E); low_rank (tokens, rank) in x's dtype;
    sides (tokens, SIDES * STATES) in float32, each side padded with zeros to STATES, so that the
    scan kernels load whole powers of two. RANK and OUTPUTS are powers of two, at least 16. Grid:
    (token tiles,).
    """
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    inside = (token < tokens)[:, None]
    row = token.to(tl.int64)[:, None]
    step = tl.arange(0, RANK)
    output = tl.arange(0, OUTPUTS)
    state, side = output % STATES, output // STATES
    used = (state < states) & (side < SIDES)
    source = rank + side * states + state

    low = tl.zeros((BLOCK_T, RANK), tl.float32)
    sums = tl.zeros((BLOCK_T, OUTPUTS), tl.float32)
    for start in range(0, channels, BLOCK_E):
        channel = start + tl.arange(0, BLOCK_E)
        valid = channel < channels
        values = tl.load(x + row * channels + channel[None, :], inside & valid[None, :], 0)
        of_step = (step < rank)[None, :] & valid[:, None]
        columns = tl.load(weight + step[None, :] * channels + channel[:, None], of_step, 0)
        columns = columns.to(values.dtype).to(DOT_DTYPE)
        low = tl.dot(values.to(DOT_DTYPE), columns, low, input_precision=PRECISION)
        of_side = used[None, :] & valid[:, None]
        columns = tl.load(weight + source[None, :] * channels + channel[:, None], of_side, 0)
        columns = columns.to(values.dtype).to(DOT_DTYPE)
        sums = tl.dot(values.to(DOT_DTYPE), columns, sums, input_precision=PRECISION)

    width: tl.constexpr = SIDES * STATES
    tl.store(sides + row * width + output[None, :], sums, inside & (output < width)[None, :])
    low = low.to(low_rank.dtype.element_ty)
    tl.store(low_rank + row * rank + step[None, :], low, inside & (step < rank)[None, :])
