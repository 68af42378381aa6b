"""Projection of each token to its time step and to the token-dependent side or sides of the SSM."""

import triton
import triton.language as tl

__all__ = ['projection_kernel']


@triton.jit
def projection_kernel(
    x,
    weight,
    projected,
    tokens,
    channels,
    projected_token,
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
    """``projected = x @ weight.T`` with the columns spread to powers of two.

    Shapes: x (tokens, E); weight (rank + SIDES * states, E); projected (tokens, projected_token) in
    float32: RANK numbers of the time step, then STATES for each side, padded with zeros, so that
    the scan kernels load whole powers of two. OUTPUTS is a power of two, at least 16 and at least
    ``projected_token``. Grid: (token tiles,).
    """
    token = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    inside = token < tokens
    output = tl.arange(0, OUTPUTS)
    state = (output - RANK) % STATES
    side = (output - RANK) // STATES
    source = tl.where(output < RANK, output, rank + side * states + state)
    used = tl.where(output < RANK, output < rank, (state < states) & (side < SIDES))
    row = token.to(tl.int64)[:, None]

    sums = tl.zeros((BLOCK_T, OUTPUTS), tl.float32)
    for start in range(0, channels, BLOCK_E):
        channel = start + tl.arange(0, BLOCK_E)
        valid = channel < channels
        values = tl.load(x + row * channels + channel[None, :], inside[:, None] & valid[None, :], 0)
        columns = tl.load(
            weight + source[None, :] * channels + channel[:, None],
            used[None, :] & valid[:, None],
            0,
        ).to(values.dtype)
        sums = tl.dot(values.to(DOT_DTYPE), columns.to(DOT_DTYPE), sums, input_precision=PRECISION)
    tl.store(
        projected + row * projected_token + output[None, :],
        sums,
        inside[:, None] & (output < projected_token)[None, :],
    )
