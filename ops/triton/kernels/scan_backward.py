"""Backward pass of the selective scan, in several directions."""

import triton
import triton.language as tl

from .channel_sums import store_sums
from .elementary import LN2, LOG2E, softplus_grad
from .lanes import RUNTIME, segment_entry
from .scan_tiles import load_matrix, scattered, store_matrix, time_step, token_vector

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
    """Recomputes the states of a stretch of a lane, and walks back over it with their gradients.

    What has to stay in registers is the history of the states. So a lane is cut into chunks of
    CHUNK steps, and the states into groups of GROUP, handled after each other; what crosses from
    chunk to chunk goes through ``carried``: the state at the start of each chunk, which a walk
    ahead over the lane leaves there, and the gradient that comes back. Lanes of one chunk need
    neither. EVEN: whether CHUNK divides the length. Lanes may come in segments, as in the forward
    kernel; ``lanes`` counts those then, and ``start`` and ``incoming``, both
    (K, lanes, E, STATES), are the states that enter them and the gradients of those that leave.

    Arguments as in the forward kernel; grad_y (K, tokens, E), or (tokens, E) if SHARED_Y; grad_x
    and grad_delta (K, tokens, E), the latter before bias and softplus. Partial sums, to be summed
    over their first axis: grad_A (programs along the lanes, E, states), grad_D and grad_bias
    (programs along the lanes, E), grad_B and grad_C (channel blocks, K, tokens, states), or like
    grad_A for constant ones. ``maps`` is K. carried: (programs, most chunks, BLOCK_E, STATES),
    float32. FAST_SUMS: see :func:`.channel_sums.sum_of_four`.
    Grid: (channel blocks * lane groups,).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    group = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    slot = scattered(tl.arange(0, BLOCK_E))
    channel = block * BLOCK_E + slot
    valid = channel < channels
    index = tl.arange(0, GROUP)
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
                first_lane + turn,
                (reverse >> i) & 1,
                length,
                width,
                along_h,
                segments,
                segment_steps,
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
                        (chunks - 1) * CHUNK,
                        row,
                        step,
                        x_token,
                        delta_token,
                        B_token,
                        part * GROUP,
                        states,
                        B_KIND,
                        HAS_BIAS,
                        SOFTPLUS,
                        STATES,
                        GROUP,
                        CHUNK,
                        BLOCK_E,
                    )

            for chunk in range(chunks - 1, -1, -1):
                tl.debug_barrier()  # what is carried may be read by other threads than wrote it
                dts, inflows, upstream, drives, decays = (), (), (), (), ()
                for j in tl.static_range(CHUNK):
                    t = chunk * CHUNK + j
                    alive = valid & (EVEN | (t < steps))
                    now = step_of(t, steps, EVEN) * step
                    u = tl.load(x_row + now * x_token, alive, 0).to(tl.float32)
                    raw = tl.load(delta_row + now * delta_token, alive, 0)
                    dy = tl.load(y_row + now * channels, alive, 0).to(tl.float32)
                    dt = time_step(raw, bias, HAS_BIAS, SOFTPLUS)
                    if not EVEN:  # steps too many must leave an incoming gradient as it is
                        dt = tl.where(alive, dt, 0)
                    dts = dts + (dt,)
                    inflows = inflows + (dt * u,)
                    upstream = upstream + (dy,)
                    drives = drives + (tl.zeros((BLOCK_E,), tl.float32),)
                    decays = decays + (tl.zeros((BLOCK_E,), tl.float32),)

                for part in range(STATES // GROUP):
                    offset = part * GROUP
                    left = states - offset
                    A_log2 = load_matrix(A + offset, channel, valid, states, left, GROUP) * LOG2E
                    real = (index < left).to(tl.float32)[:, None]
                    B_t, C_t = real, real
                    if B_KIND == 'constant':
                        B_t = load_matrix(B + offset, channel, valid, states, left, GROUP)
                    if C_KIND == 'constant':
                        C_t = load_matrix(C + offset, channel, valid, states, left, GROUP)
                    place = kept + chunk * (STATES * BLOCK_E) + offset
                    state = load_matrix(
                        place, slot, (slot >= 0) & (chunk > 0), STATES, GROUP, GROUP
                    )
                    if start is not None:
                        state += load_matrix(
                            start + offset, edge, valid & (chunk == 0), STATES, GROUP, GROUP
                        )
                    # The gradient comes back through the next chunk's place.
                    place += STATES * BLOCK_E
                    grad = load_matrix(
                        place, slot, (slot >= 0) & (chunk < chunks - 1), STATES, GROUP, GROUP
                    )
                    if incoming is not None:
                        last = valid & (chunk == chunks - 1)
                        grad += load_matrix(incoming + offset, edge, last, STATES, GROUP, GROUP)
                    before = ()
                    for j in tl.static_range(CHUNK):
                        before = before + (state,)
                        spot = row + step_of(chunk * CHUNK + j, steps, EVEN) * step
                        if B_KIND == 'token':
                            B_t = token_part(B + spot * B_token, offset, states, GROUP)
                        decay = tl.exp2(dts[j][None, :] * A_log2)
                        state = decay * state + inflows[j][None, :] * B_t

                    # The same, but not to the compiler, which else keeps every decay of this
                    # walk in registers for the way back: they are scarce, exponentials are not.
                    A_again = A_log2 + tl.program_id(2).to(tl.float32)
                    after = state
                    A_sum = tl.zeros((GROUP, BLOCK_E), tl.float32)
                    B_sum, C_sum = A_sum, A_sum
                    new_drives, new_decays, B_products, C_products = (), (), (), ()
                    for j in tl.static_range(CHUNK - 1, -1, -1):
                        spot = row + step_of(chunk * CHUNK + j, steps, EVEN) * step
                        if B_KIND == 'token':
                            B_t = token_part(B + spot * B_token, offset, states, GROUP)
                        if C_KIND == 'token':
                            C_t = token_part(C + spot * C_token, offset, states, GROUP)
                        grad += upstream[j][None, :] * C_t
                        if C_KIND != 'one':
                            C_product = upstream[j][None, :] * after
                            C_products = C_products + (C_product,)
                            if C_KIND == 'constant':
                                C_sum += C_product
                        if B_KIND != 'one':
                            B_product = grad * inflows[j][None, :]
                            B_products = B_products + (B_product,)
                            if B_KIND == 'constant':
                                B_sum += B_product
                        if ((CHUNK - j) % 4 == 0) | (j == 0):
                            earliest = chunk * CHUNK + j
                            if B_KIND == 'token':
                                store_sums(
                                    grad_B,
                                    B_products,
                                    (CHUNK - 1 - j) % 4 + 1,
                                    token_sums + row,
                                    step,
                                    earliest,
                                    steps,
                                    offset,
                                    states,
                                    GROUP,
                                    FAST_SUMS,
                                    DOT_DTYPE,
                                )
                            if C_KIND == 'token':
                                store_sums(
                                    grad_C,
                                    C_products,
                                    (CHUNK - 1 - j) % 4 + 1,
                                    token_sums + row,
                                    step,
                                    earliest,
                                    steps,
                                    offset,
                                    states,
                                    GROUP,
                                    FAST_SUMS,
                                    DOT_DTYPE,
                                )
                            B_products, C_products = (), ()
                        new_drives = (drives[j] + tl.sum(grad * B_t, axis=0),) + new_drives
                        grad *= tl.exp2(dts[j][None, :] * A_again)
                        exponent = grad * before[j]
                        A_sum += exponent * dts[j][None, :]
                        new_decays = (decays[j] + tl.sum(exponent * A_log2, axis=0),) + new_decays
                        after = before[j]
                    drives, decays = new_drives, new_decays

                    if chunk > 0:
                        place = kept + chunk * (STATES * BLOCK_E) + offset
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

                for j in tl.static_range(CHUNK):
                    t = chunk * CHUNK + j
                    alive = valid & (EVEN | (t < steps))
                    now = step_of(t, steps, EVEN) * step
                    u = tl.load(x_row + now * x_token, alive, 0).to(tl.float32)
                    du = drives[j] * dts[j]
                    ddt = drives[j] * u + decays[j] * LN2
                    if HAS_D:
                        du += skip * upstream[j]
                        D_sum += upstream[j] * u
                    if SOFTPLUS != 'none':
                        ddt *= softplus_grad(dts[j])
                    bias_sum += tl.where(alive, ddt, 0)
                    where = (row + now) * channels + channel
                    tl.store(grad_x + where, du.to(grad_x.dtype.element_ty), alive)
                    tl.store(grad_delta + where, ddt.to(grad_delta.dtype.element_ty), alive)

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
    """Leave a group's state at the start of every chunk but the first in ``kept``."""
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
def step_of(t, steps, EVEN: tl.constexpr):
    """Step ``t``, or the last one for those that a chunk has too many."""
    if EVEN:
        return t
    return min(t, steps - 1)


@triton.jit
def token_part(pointer, offset, states: tl.constexpr, GROUP: tl.constexpr):
    """States from ``offset`` on of one token's projection, as a (GROUP, 1) tile."""
    if states % GROUP == 0:
        return token_vector(pointer + offset, GROUP, GROUP)
    index = tl.arange(0, GROUP)
    part = tl.load(pointer + offset + index, index < states - offset, 0)
    return part.to(tl.float32)[:, None]


@triton.jit
def add_matrix(pointer, tile, channel, valid, again, row, size, SIZE: tl.constexpr):
    """Add a tile to a matrix in memory where ``again``, else put it there."""
    tile += load_matrix(pointer, channel, again, row, size, SIZE)
    store_matrix(pointer, tile, channel, valid, row, size, SIZE)
