"""Forward pass of the selective scan, in several directions."""

import triton
import triton.language as tl

from .elementary import LOG2E
from .lanes import RUNTIME, segment_entry
from .scan_tiles import load_matrix, scattered, time_step, token_vector

__all__ = ['scan_forward_kernel']


@triton.jit(do_not_specialize=RUNTIME)
def scan_forward_kernel(
    x,
    delta,
    delta_bias,
    A,
    B,
    C,
    D,
    start,
    y,
    length,
    width,
    tokens,
    channels,
    states: tl.constexpr,
    x_token,
    delta_token,
    B_token,
    C_token,
    directions,
    reverse,
    along_h,
    adds,
    segments,
    segment_steps,
    DIRECTIONS: tl.constexpr,
    SUMS: tl.constexpr,
    B_KIND: tl.constexpr,
    C_KIND: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    STATES: tl.constexpr,
    STRETCH: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Walk along the lanes (rows, or columns if along_h) with the states in registers.

    A program owns a block of channels of one lane, or of one segment of a lane, and loads STRETCH
    tokens at a time. It walks in one direction. If SUMS, it walks in all of this launch's
    directions, one after the other, and sums their outputs, and adds them to ``y`` if ``adds``.

    Shapes: x and delta (K, tokens, E); B, C (K, tokens, states) or (E, states); A (E, states); D,
    delta_bias (E,); start (K, lanes * segments, E, STATES), float32, or None for zero; y (K,
    tokens, E), or (tokens, E) if SUMS. ``*_token`` is the distance between tokens. B_KIND and
    C_KIND are ``'one'``, ``'constant'`` or ``'token'``. Nibble i of ``directions`` is the k of this
    launch's direction i, and bit i of ``reverse`` says whether it goes backwards. STATES is
    ``states`` rounded up to a power of two. :func:`.lanes.segment_entry` says how lanes are cut.
    Grid: (channel blocks * lanes * segments, 1 if SUMS else DIRECTIONS).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    lane = tl.program_id(0) // blocks
    channel = (tl.program_id(0) % blocks) * BLOCK_E + scattered(tl.arange(0, BLOCK_E))
    valid = channel < channels

    A_log2 = load_matrix(A, channel, valid, states, states, STATES) * LOG2E
    # The B of padding states is zero, so that they add nothing.
    B_t = (tl.arange(0, STATES) < states).to(tl.float32)[:, None]
    C_t = B_t
    if B_KIND == 'constant':
        B_t = load_matrix(B, channel, valid, states, states, STATES)
    if C_KIND == 'constant':
        C_t = load_matrix(C, channel, valid, states, states, STATES)
    bias = tl.zeros((BLOCK_E,), tl.float32)
    if HAS_BIAS:
        bias = tl.load(delta_bias + channel, valid, 0).to(tl.float32)
    skip = bias
    if HAS_D:
        skip = tl.load(D + channel, valid, 0).to(tl.float32)

    for turn in range(DIRECTIONS if SUMS else 1):
        i = turn if SUMS else tl.program_id(1)
        k = ((directions >> (4 * i)) & 15).to(tl.int64)
        first = k * tokens
        token, step, steps = segment_entry(
            lane, (reverse >> i) & 1, length, width, along_h, segments, segment_steps
        )
        target = y + (token if SUMS else token + first) * channels + channel
        x_row = x + (first + token) * x_token + channel
        delta_row = delta + (first + token) * delta_token + channel

        state = tl.zeros((STATES, BLOCK_E), tl.float32)
        if start is not None:
            edge = (k * (tl.num_programs(0) // blocks) + lane) * channels + channel
            state = load_matrix(start, edge, valid, STATES, STATES, STATES)
        for t in range(0, steps, STRETCH):
            xs, deltas, before = (), (), ()
            for j in tl.static_range(STRETCH):
                there, at = valid & (t + j < steps), (t + j) * step
                xs = xs + (tl.load(x_row + at * x_token, there, 0),)
                deltas = deltas + (tl.load(delta_row + at * delta_token, there, 0),)
                if SUMS:
                    again = there & ((turn > 0) | (adds == 1))
                    before = before + (tl.load(target + at * channels, again, 0),)
            for j in tl.static_range(STRETCH):
                u = xs[j].to(tl.float32)
                dt = time_step(deltas[j], bias, HAS_BIAS, SOFTPLUS)
                there, at = t + j < steps, (t + j) * step
                row = first + token + tl.where(there, at, 0)
                if B_KIND == 'token':
                    B_t = token_vector(B + row * B_token, states, STATES)
                if C_KIND == 'token':
                    C_t = token_vector(C + row * C_token, states, STATES)
                state = tl.exp2(dt[None, :] * A_log2) * state + (dt * u)[None, :] * B_t
                if C_KIND == 'one':
                    out = tl.sum(state, axis=0)
                else:
                    out = tl.sum(state * C_t, axis=0)
                if HAS_D:
                    out += skip * u
                if SUMS:
                    out += before[j].to(tl.float32)
                tl.store(target + at * channels, out.to(y.dtype.element_ty), valid & there)
