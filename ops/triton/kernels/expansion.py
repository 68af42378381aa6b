"""The expansion of time steps from their low rank, with softplus."""

import triton
import triton.language as tl

from .elementary import softplus

__all__ = ['expand_kernel']


@triton.jit(do_not_specialize=['tokens', 'blocks', 'rank'])
def expand_kernel(
    low_rank,
    dt_weight,
    dt_bias,
    delta,
    tokens,
    channels,
    blocks,
    rank,
    ALIGNED: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute ``delta = softplus(low_rank @ dt_weight.T + dt_bias)``.

    A program owns a tile of tokens and one of the ``blocks`` of channels. Consecutive programs
    write to the same tokens.

    Shapes: low_rank (tokens, rank); dt_weight (E, rank); dt_bias (E,); delta (tokens, E) in
    low_rank's dtype. ALIGNED divides ``rank``; RANK is a power of two, at least 16. Grid: (token
    tiles * blocks,).
    """
    rank = rank // ALIGNED * ALIGNED
    token = tl.program_id(0) // blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    channel = tl.program_id(0) % blocks * BLOCK_E + tl.arange(0, BLOCK_E)
    inside, valid = (token < tokens)[:, None], channel < channels
    row, step = token.to(tl.int64)[:, None], tl.arange(0, RANK)

    low = tl.load(low_rank + row * rank + step[None, :], inside & (step < rank)[None, :], 0)
    of_step = (step < rank)[:, None] & valid[None, :]
    columns = tl.load(dt_weight + channel[None, :] * rank + step[:, None], of_step, 0)
    columns = columns.to(low.dtype).to(DOT_DTYPE)
    raw = tl.dot(low.to(DOT_DTYPE), columns, input_precision=PRECISION)
    raw += tl.load(dt_bias + channel, valid, 0)[None, :]
    result = softplus(raw).to(delta.dtype.element_ty)
    tl.store(delta + row * channels + channel[None, :], result, inside & valid[None, :])
