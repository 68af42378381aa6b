"""Causal depthwise convolution and SiLU, in several directions."""

import triton
import triton.language as tl

from .elementary import silu

__all__ = ['conv_forward_kernel']


@triton.jit
def conv_forward_kernel(
    x,
    weight,
    bias,
    y,
    tokens,
    height,
    width,
    channels,
    x_token,
    along_h,
    reverse,
    SHARED_X: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """``y[k] = silu(conv_k(x[k]))``; a program owns a tile of tokens and channels.

    Shapes: x (K, tokens, E), or (tokens, E) if SHARED_X, with ``x_token`` elements from token to
    token; weight (E, TAPS); bias (E,); y (K, tokens, E) in x's dtype. Bit k of ``along_h`` and
    ``reverse`` is direction k. Grid: (token tiles * channel blocks, K).
    """
    k = tl.program_id(1)
    blocks = tl.cdiv(channels, BLOCK_E)
    down = (along_h >> k) & 1
    backwards = (reverse >> k) & 1
    token = (tl.program_id(0) // blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
    channel = (tl.program_id(0) % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    inside, valid = token < tokens, channel < channels
    coordinate = tl.where(down == 1, (token // width) % height, token % width)
    length = tl.where(down == 1, height, width)
    steps_before = tl.where(backwards == 1, length - 1 - coordinate, coordinate)
    step = tl.where(down == 1, width, 1) * tl.where(backwards == 1, -1, 1)

    first = k.to(tl.int64) * tokens
    rows = token.to(tl.int64) + (0 if SHARED_X else first)
    linear = tl.zeros((BLOCK_T, BLOCK_E), tl.float32)
    if HAS_BIAS:
        linear += tl.load(bias + channel, valid, 0)[None, :]
    for lag in tl.static_range(TAPS):
        seen = tl.load(
            x + (rows - lag * step)[:, None] * x_token + channel[None, :],
            (inside & (steps_before >= lag))[:, None] & valid[None, :],
            0,
        ).to(tl.float32)
        linear += tl.load(weight + channel * TAPS + (TAPS - 1 - lag), valid, 0)[None, :] * seen
    tl.store(
        y + (token + first)[:, None] * channels + channel[None, :],
        silu(linear).to(y.dtype.element_ty),
        inside[:, None] & valid[None, :],
    )
