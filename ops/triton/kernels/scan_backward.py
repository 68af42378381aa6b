"""Backward pass of the selective scan, in several directions."""

import triton
import triton.language as tl

from .elementary import LOG2E
from .lanes import RUNTIME, segment_entry
from .scan_chunk import (
    enter_chunk,
    leave_chunk,
    read_chunk,
    side_of_all,
    states_of_chunk,
    token_part,
    walk_back,
)
from .scan_tiles import load_matrix, scattered, store_matrix, time_step

__all__ = ['scan_backward_kernel']


@triton.jit(do_not_specialize=RUNTIME)
def scan_backward_kernel(
    grad_y,
    x,
    delta,
    delta_bias,
    A,
    B,
    C,
    D,
    start,
    incoming,
    carried,
    grad_x,
    grad_delta,
    grad_A,
    grad_B,
    grad_C,
    grad_D,
    grad_bias,
    lanes,
    lanes_per_program,
    length,
    width,
    tokens,
    maps,
    channels,
    states: tl.constexpr,
    x_token,
    delta_token,
    B_token,
    C_token,
    directions,
    reverse,
    along_h,
    segments,
    segment_steps,
    DIRECTIONS: tl.constexpr,
    SHARED_Y: tl.constexpr,
    B_KIND: tl.constexpr,
    C_KIND: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    STATES: tl.constexpr,
    GROUP: tl.constexpr,
    CHUNK: tl.constexpr,
    EVEN: tl.constexpr,
    BLOCK_E: tl.constexpr,
    FAST_SUMS: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
):
    """Compute the states of a lane again, and walk back over it with their gradients.

    The history of the states has to stay in registers. So a lane is cut into chunks of CHUNK steps,
    and the states into groups of GROUP, and one follows the other. ``carried`` holds the states and
    gradients between chunks. First, a walk ahead over the lane stores the state at the start of
    each chunk there. Later, the gradient that comes back replaces it. Lanes of one chunk need
    neither. EVEN says whether CHUNK divides the length.

    Lanes may be cut into segments, as in the forward kernel. Then ``lanes`` counts segments,
    ``start`` holds the states that enter them, and ``incoming`` the gradients of the states that
    leave them, both (K, lanes, E, STATES).

    Other arguments are those of the forward kernel, and: grad_y (K, tokens, E), or (tokens, E) if
    SHARED_Y; grad_x and grad_delta (K, tokens, E), the latter before bias and softplus. Partial
    sums, to be summed over their first axis: grad_A (programs along the lanes, E, states), grad_D
    and grad_bias (programs along the lanes, E), grad_B and grad_C (channel blocks, K, tokens,
    states), or like grad_A if they are constant. ``maps`` is K. carried: (programs, most chunks,
    BLOCK_E, STATES), float32. FAST_SUMS: see :func:`.channel_sums.sum_of_four`. Grid: (channel
    blocks * lane groups,).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    group = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    slot = scattered(tl.arange(0, BLOCK_E))
    channel = block * BLOCK_E + slot
    valid = channel < channels
    most_chunks = tl.cdiv(segment_steps, CHUNK)
    kept = carried + tl.program_id(0).to(tl.int64) * most_chunks * (STATES * BLOCK_E)
    sums_row = group.to(tl.int64) * channels + channel
    token_sums = block.to(tl.int64) * maps * tokens

    bias = tl.zeros((BLOCK_E,), tl.float32)
    if HAS_BIAS:
        bias = tl.load(delta_bias + channel, valid, 0).to(tl.float32)
    skip = tl.zeros((BLOCK_E,), tl.float32)
    if HAS_D:
        skip = tl.load(D + channel, valid, 0).to(tl.float32)
    D_sum, bias_sum = tl.zeros((BLOCK_E,), tl.float32), tl.zeros((BLOCK_E,), tl.float32)

    first_lane = group * lanes_per_program
    for turn in range(min(lanes - first_lane, lanes_per_program)):
        for i in range(DIRECTIONS):
            k = ((directions >> (4 * i)) & 15).to(tl.int64)
            first = k * tokens
            entry, step, steps = segment_entry(
                *(first_lane + turn, (reverse >> i) & 1),
                *(length, width, along_h, segments, segment_steps),
            )
            chunks = tl.cdiv(steps, CHUNK)
            edge = (k * lanes + first_lane + turn) * channels + channel
            x_row = x + (first + entry) * x_token + channel
            delta_row = delta + (first + entry) * delta_token + channel
            y_row = grad_y + (entry if SHARED_Y else first + entry) * channels + channel
            row = first + entry

            if chunks > 1:
                for part in range(STATES // GROUP):
                    walk_ahead(
                        *(x_row, delta_row, bias, A, B, start, edge, kept),
                        *(slot, channel, valid, (chunks - 1) * CHUNK),
                        *(row, step, x_token, delta_token, B_token, part * GROUP, states),
                        *(B_KIND, HAS_BIAS, SOFTPLUS, STATES, GROUP, CHUNK, BLOCK_E),
                    )

            for chunk in range(chunks - 1, -1, -1):
                tl.debug_barrier()  # other threads may read what a thread has carried over
                dts, inflows, upstream, drives = read_chunk(
                    *(x_row, delta_row, y_row, bias, valid),
                    *(chunk, steps, step, x_token, delta_token, channels),
                    *(HAS_BIAS, SOFTPLUS, CHUNK, EVEN),
                )
                decays = drives

                for part in range(STATES // GROUP):
                    offset = part * GROUP
                    left = states - offset
                    A_log2 = load_matrix(A + offset, channel, valid, states, left, GROUP) * LOG2E
                    B_t = side_of_all(B, B_KIND, channel, valid, offset, states, GROUP)
                    C_t = side_of_all(C, C_KIND, channel, valid, offset, states, GROUP)
                    place = kept + chunk * (STATES * BLOCK_E) + offset
                    state = enter_chunk(
                        *(place, start, slot, (slot >= 0) & (chunk > 0)),
                        *(edge, valid & (chunk == 0), offset, STATES, GROUP),
                    )
                    # The gradient comes back through the next chunk's place.
                    grad = enter_chunk(
                        *(place + STATES * BLOCK_E, incoming, slot),
                        *((slot >= 0) & (chunk < chunks - 1), edge),
                        *(valid & (chunk == chunks - 1), offset, STATES, GROUP),
                    )
                    before, after = states_of_chunk(
                        *(state, A_log2, B_t, B, dts, inflows),
                        *(chunk, row, step, steps, B_token),
                        *(offset, states, B_KIND, GROUP, CHUNK, EVEN),
                    )
                    grad, A_sum, B_sum, C_sum, drives, decays = walk_back(
                        *(grad, after, before, A_log2, B_t, C_t, B, C),
                        *(dts, inflows, upstream, drives, decays),
                        *(grad_B, grad_C, token_sums),
                        *(chunk, row, step, steps, B_token, C_token, offset),
                        *(states, B_KIND, C_KIND, GROUP, CHUNK),
                        *(EVEN, BLOCK_E, FAST_SUMS, DOT_DTYPE),
                    )
                    if chunk > 0:
                        store_matrix(place, grad, slot, slot >= 0, STATES, GROUP, GROUP)
                    again = valid & ((turn > 0) | (i > 0) | (chunk < chunks - 1))
                    add_matrix(grad_A + offset, A_sum, sums_row, valid, again, states, left, GROUP)
                    if B_KIND == 'constant':
                        add_matrix(
                            grad_B + offset, B_sum, sums_row, valid, again, states, left, GROUP
                        )
                    if C_KIND == 'constant':
                        add_matrix(
                            grad_C + offset, C_sum, sums_row, valid, again, states, left, GROUP
                        )

                D_sum, bias_sum = leave_chunk(
                    *(grad_x, grad_delta, x_row, skip),
                    *(dts, upstream, drives, decays, D_sum, bias_sum),
                    *(valid, channel, chunk, row, step, steps, x_token, channels),
                    *(HAS_D, SOFTPLUS, CHUNK, EVEN),
                )

    if HAS_D:
        tl.store(grad_D + sums_row, D_sum, valid)
    if HAS_BIAS:
        tl.store(grad_bias + sums_row, bias_sum, valid)


@triton.jit
def walk_ahead(
    x_row,
    delta_row,
    bias,
    A,
    B,
    start,
    edge,
    kept,
    slot,
    channel,
    valid,
    steps,
    row,
    step,
    x_token,
    delta_token,
    B_token,
    offset,
    states: tl.constexpr,
    B_KIND: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    STATES: tl.constexpr,
    GROUP: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Store a group's state at the start of every chunk, except the first one, in ``kept``."""
    left = states - offset
    A_log2 = load_matrix(A + offset, channel, valid, states, left, GROUP) * LOG2E
    B_t = (tl.arange(0, GROUP) < left).to(tl.float32)[:, None]
    if B_KIND == 'constant':
        B_t = load_matrix(B + offset, channel, valid, states, left, GROUP)
    state = tl.zeros((GROUP, BLOCK_E), tl.float32)
    if start is not None:
        state = load_matrix(start + offset, edge, valid, STATES, GROUP, GROUP)
    for t in range(steps):
        u = tl.load(x_row + t * step * x_token, valid, 0).to(tl.float32)
        raw = tl.load(delta_row + t * step * delta_token, valid, 0)
        dt = time_step(raw, bias, HAS_BIAS, SOFTPLUS)
        if B_KIND == 'token':
            B_t = token_part(B + (row + t * step) * B_token, offset, states, GROUP)
        state = tl.exp2(dt[None, :] * A_log2) * state + (dt * u)[None, :] * B_t
        if (t + 1) % CHUNK == 0:
            place = kept + (t + 1) // CHUNK * (STATES * BLOCK_E) + offset
            store_matrix(place, state, slot, slot >= 0, STATES, GROUP, GROUP)


@triton.jit
def add_matrix(pointer, tile, channel, valid, again, row, size, SIZE: tl.constexpr):
    """Store a tile in a matrix in memory, or add it to the matrix where ``again``."""
    tile += load_matrix(pointer, channel, again, row, size, SIZE)
    store_matrix(pointer, tile, channel, valid, row, size, SIZE)
