"""The states that enter the segments of a long lane, so that all can be scanned at once."""

import triton
import triton.language as tl

from .lanes import RUNTIME, segment_entry
from .scan_tiles import load_matrix, load_rates, scattered, store_matrix, time_step, token_vector

__all__ = ['chain_segments_kernel', 'sum_segments_kernel']


@triton.jit(do_not_specialize=RUNTIME)
def sum_segments_kernel(
    values,
    delta,
    delta_bias,
    A,
    side,
    edges,
    total_steps,
    length,
    width,
    tokens,
    channels,
    states: tl.constexpr,
    value_token,
    delta_token,
    side_token,
    directions,
    reverse,
    along_h,
    segments,
    segment_steps,
    ADJOINT: tl.constexpr,
    LOG_A: tl.constexpr,
    SHARED: tl.constexpr,
    SIDE_KIND: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    STATES: tl.constexpr,
    STRETCH: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Compute what a segment adds to the state that leaves it, and the sum of its time steps.

    ``values`` and ``side`` are the scan's x and B. If ADJOINT, they are the gradient of its output
    (one for all directions if SHARED) and C. The walk then goes against the scan's, and the result
    is what the segment adds to the gradient of the state that enters it.

    Shapes are those of the forward kernel, and: edges (K, lanes * segments, E, STATES) and
    total_steps (K, lanes * segments, E), float32. STRETCH is the number of tokens that are loaded
    at a time. LOG_A: see :func:`.scan_tiles.load_rates`. Grid: (channel blocks * lanes * segments,
    directions).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    lane = tl.program_id(0) // blocks
    i = tl.program_id(1)
    k = ((directions >> (4 * i)) & 15).to(tl.int64)
    channel = (tl.program_id(0) % blocks) * BLOCK_E + scattered(tl.arange(0, BLOCK_E))
    valid = channel < channels
    backwards = ((reverse >> i) & 1) ^ (1 if ADJOINT else 0)
    token, step, steps = segment_entry(
        lane, backwards, length, width, along_h, segments, segment_steps
    )

    A_log2 = load_rates(A, channel, valid, states, STATES, LOG_A)
    side_t = (tl.arange(0, STATES) < states).to(tl.float32)[:, None]
    if SIDE_KIND == 'constant':
        side_t = load_matrix(side, channel, valid, states, states, STATES)
    bias = tl.zeros((BLOCK_E,), tl.float32)
    if HAS_BIAS:
        bias = tl.load(delta_bias + channel, valid, 0).to(tl.float32)

    state = tl.zeros((STATES, BLOCK_E), tl.float32)
    total = tl.zeros((BLOCK_E,), tl.float32)
    value_row = values + (token if SHARED else token + k * tokens) * value_token + channel
    delta_row = delta + (token + k * tokens) * delta_token + channel
    for start in range(0, steps, STRETCH):
        loaded, deltas = (), ()
        for j in tl.static_range(STRETCH):
            there, at = valid & (start + j < steps), (start + j) * step
            loaded = loaded + (tl.load(value_row + at * value_token, there, 0),)
            deltas = deltas + (tl.load(delta_row + at * delta_token, there, 0),)
        for j in tl.static_range(STRETCH):
            there, at = start + j < steps, (start + j) * step
            value = loaded[j].to(tl.float32)
            dt = tl.where(there, time_step(deltas[j], bias, HAS_BIAS, SOFTPLUS), 0)
            if SIDE_KIND == 'token':
                row = k * tokens + token + tl.where(there, at, 0)
                side_t = token_vector(side + row * side_token, states, STATES)
            total += dt
            decay = tl.exp2(dt[None, :] * A_log2)
            if ADJOINT:
                state = decay * (state + value[None, :] * side_t)
            else:
                state = decay * state + (dt * value)[None, :] * side_t

    lanes = tl.num_programs(0) // blocks
    row = (k * lanes + lane) * channels + channel
    store_matrix(edges, state, row, valid, STATES, STATES, STATES)
    tl.store(total_steps + row, total, valid)


@triton.jit(do_not_specialize=RUNTIME)
def chain_segments_kernel(
    edges,
    total_steps,
    A,
    channels,
    states: tl.constexpr,
    directions,
    reverse,
    segments,
    ADJOINT: tl.constexpr,
    LOG_A: tl.constexpr,
    STATES: tl.constexpr,
    STRETCH: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Replace what each segment adds by the state that enters it, in the order of the walk.

    Arguments are those of :func:`sum_segments_kernel`, except that STRETCH is the number of
    segments that are loaded at a time. Grid: (channel blocks * lanes, directions).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    lane = tl.program_id(0) // blocks
    lanes = tl.num_programs(0) // blocks
    i = tl.program_id(1)
    k = ((directions >> (4 * i)) & 15).to(tl.int64)
    channel = (tl.program_id(0) % blocks) * BLOCK_E + scattered(tl.arange(0, BLOCK_E))
    valid = channel < channels
    backwards = ((reverse >> i) & 1) ^ (1 if ADJOINT else 0)

    A_log2 = load_rates(A, channel, valid, states, STATES, LOG_A)
    state = tl.zeros((STATES, BLOCK_E), tl.float32)
    for turn in range(0, segments, STRETCH):
        rows, left, totals = (), (), ()
        for j in tl.static_range(STRETCH):
            there = valid & (turn + j < segments)
            segment = tl.where(backwards == 1, segments - 1 - (turn + j), turn + j)
            rows = rows + (((k * lanes + lane) * segments + segment) * channels + channel,)
            left = left + (load_matrix(edges, rows[j], there, STATES, STATES, STATES),)
            totals = totals + (tl.load(total_steps + rows[j], there, 0),)
        for j in tl.static_range(STRETCH):
            there = valid & (turn + j < segments)
            store_matrix(edges, state, rows[j], there, STATES, STATES, STATES)
            state = tl.exp2(totals[j][None, :] * A_log2) * state + left[j]
