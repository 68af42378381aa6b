"""Backward pass of the selective scan, in several directions."""

import triton
import triton.language as tl

from .elementary import LN2, LOG2E, sigmoid, softplus_grad
from .scan_tiles import (
    load_matrix,
    load_projection,
    scattered,
    store_matrix,
    sum_channels,
    time_step,
)

__all__ = ['scan_backward_kernel']


@triton.jit
def scan_backward_kernel(
    grad_y,
    x,
    delta,
    delta_bias,
    A,
    B,
    C,
    D,
    z,
    checkpoints,
    grad_x,
    grad_delta,
    grad_A,
    grad_B,
    grad_C,
    grad_D,
    grad_z,
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
    z_token,
    delta_token,
    B_token,
    C_token,
    directions,
    reverse,
    reverse_out,
    ALONG_H: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    SHARED_Y: tl.constexpr,
    ADDS: tl.constexpr,
    B_KIND: tl.constexpr,
    C_KIND: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_Z: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    STATES: tl.constexpr,
    FAST_SUMS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Walks each lane forwards to recompute the states, then backwards with their gradients.

    A lane is cut into chunks of CHUNK steps, whose states fit into registers. The forward walk
    keeps the state at the start of each chunk in ``checkpoints``, except the first (zero) and the
    last (still at hand); the backward walk recomputes one chunk after the other from there.

    Arguments as in the forward kernel; grad_y (K, tokens, E), or (tokens, E) if SHARED_Y; grad_x
    and grad_delta (K, tokens, E), the latter before bias and softplus; grad_z (tokens, E), added up
    over directions, to what is there already if ADDS. Partial sums, to be summed over their first
    axis: grad_A (programs along the lanes, E, states), grad_D and grad_bias (programs along the
    lanes, E), grad_B and grad_C (channel blocks, K, tokens, states), or like grad_A for constant
    ones. ``maps`` is K. checkpoints: (programs, chunks, STATES, BLOCK_E).
    FAST_SUMS: see :func:`sum_channels`. Grid: (channel blocks * lane groups,).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    group = tl.program_id(0) // blocks
    block = tl.program_id(0) % blocks
    channel = block * BLOCK_E + scattered(tl.arange(0, BLOCK_E))
    valid = channel < channels
    index = tl.arange(0, STATES)
    real = index < states

    A_log2 = load_matrix(A, channel, valid, states, STATES).to(tl.float32) * LOG2E
    B_constant = real.to(tl.float32)[:, None]
    C_constant = B_constant
    if B_KIND == 'constant':
        B_constant = load_matrix(B, channel, valid, states, STATES).to(tl.float32)
    if C_KIND == 'constant':
        C_constant = load_matrix(C, channel, valid, states, STATES).to(tl.float32)
    bias = tl.zeros((BLOCK_E,), tl.float32)
    if HAS_BIAS:
        bias = tl.load(delta_bias + channel, valid, 0).to(tl.float32)
    skip = tl.zeros((BLOCK_E,), tl.float32)
    if HAS_D:
        skip = tl.load(D + channel, valid, 0).to(tl.float32)

    zero = tl.zeros((STATES, BLOCK_E), tl.float32)
    A_sum, B_sum, C_sum = zero, zero, zero
    D_sum, bias_sum = tl.zeros((BLOCK_E,), tl.float32), tl.zeros((BLOCK_E,), tl.float32)
    chunks = tl.cdiv(length, CHUNK)
    kept = checkpoints + tl.program_id(0).to(tl.int64) * chunks * STATES * BLOCK_E
    slot = scattered(tl.arange(0, BLOCK_E))

    first_lane = group * lanes_per_program
    for turn in range(min(lanes - first_lane, lanes_per_program)):
        lane = first_lane + turn
        if ALONG_H:
            start = (lane // width).to(tl.int64) * (length * width) + lane % width
            stride = width
        else:
            start = lane.to(tl.int64) * length
            stride = 1
        for i in range(DIRECTIONS):
            first = ((directions >> (4 * i)) & 15).to(tl.int64) * tokens
            backwards = (reverse >> i) & 1
            step = tl.where(backwards == 1, -stride, stride)
            entry = start + backwards * (length - 1) * stride
            backwards_out = (reverse_out >> i) & 1
            out_step = tl.where(backwards_out == 1, -stride, stride)
            out_entry = start + backwards_out * (length - 1) * stride
            if not SHARED_Y:
                out_entry += first

            state = zero
            u_ahead = tl.load(x + (first + entry) * x_token + channel, valid, 0)
            delta_ahead = tl.load(delta + (first + entry) * delta_token + channel, valid, 0)
            for t in range((chunks - 1) * CHUNK):
                if (t % CHUNK == 0) & (t > 0):
                    place = kept + t // CHUNK * (STATES * BLOCK_E)
                    store_matrix(place, state, slot, slot >= 0, STATES, STATES)
                row = first + entry + t * step
                u = u_ahead.to(tl.float32)
                dt = time_step(delta_ahead, bias, HAS_BIAS, SOFTPLUS)
                # What the next step reads is on its way while this one computes.
                u_ahead = tl.load(x + (row + step) * x_token + channel, valid, 0)
                delta_ahead = tl.load(delta + (row + step) * delta_token + channel, valid, 0)
                B_t = load_projection(B, row, B_token, B_constant, B_KIND, states, STATES)
                state = tl.exp2(dt[None, :] * A_log2) * state + (dt * u)[None, :] * B_t
            tl.debug_barrier()  # the checkpoints may be read by other threads

            grad_state = zero
            for chunk in range(chunks - 1, -1, -1):
                between = (chunk > 0) & (chunk < chunks - 1)
                place = kept + chunk * (STATES * BLOCK_E)
                loaded = load_matrix(place, slot, (slot >= 0) & between, STATES, STATES)
                state = tl.where(chunk == chunks - 1, state, loaded)
                inputs, steps, upstream, gates, sums = (), (), (), (), ()
                for j in tl.static_range(CHUNK):
                    t = chunk * CHUNK + j
                    alive = valid & (t < length)
                    now = min(t, length - 1)
                    row = first + entry + now * step
                    inputs = inputs + (tl.load(x + row * x_token + channel, alive, 0),)
                    steps = steps + (tl.load(delta + row * delta_token + channel, alive, 0),)
                    out_row = out_entry + now * out_step
                    upstream = upstream + (
                        tl.load(grad_y + out_row * channels + channel, alive, 0),
                    )
                    if HAS_Z:
                        token = entry + now * step
                        gates = gates + (tl.load(z + token * z_token + channel, alive, 0),)
                        more = alive & ((i > 0) | ADDS)
                        sums = sums + (tl.load(grad_z + token * channels + channel, more, 0),)
                before, dts = (), ()
                for j in tl.static_range(CHUNK):
                    row = first + entry + min(chunk * CHUNK + j, length - 1) * step
                    u = inputs[j].to(tl.float32)
                    dt = time_step(steps[j], bias, HAS_BIAS, SOFTPLUS)
                    B_t = load_projection(B, row, B_token, B_constant, B_KIND, states, STATES)
                    before = before + (state,)
                    dts = dts + (dt,)
                    state = tl.exp2(dt[None, :] * A_log2) * state + (dt * u)[None, :] * B_t
                after = state
                for j in tl.static_range(CHUNK - 1, -1, -1):
                    t = chunk * CHUNK + j
                    alive = valid & (t < length)
                    token = entry + min(t, length - 1) * step
                    row = first + token
                    u, dt, h = inputs[j].to(tl.float32), dts[j], before[j]
                    dy = upstream[j].to(tl.float32)
                    B_t = load_projection(B, row, B_token, B_constant, B_KIND, states, STATES)
                    C_t = load_projection(C, row, C_token, C_constant, C_KIND, states, STATES)
                    if HAS_Z:
                        if C_KIND == 'one':
                            ungated = tl.sum(after, axis=0)
                        else:
                            ungated = tl.sum(after * C_t, axis=0)
                        if HAS_D:
                            ungated += skip * u
                        gate = gates[j].to(tl.float32)
                        sig = sigmoid(gate)
                        silu = gate * sig
                        dz = sums[j].to(tl.float32) + dy * ungated * (sig + silu * (1 - sig))
                        where = grad_z + token * channels + channel
                        tl.store(where, dz.to(grad_z.dtype.element_ty), alive)
                        dy *= silu

                    grad_state += dy[None, :] * C_t
                    spot = (block.to(tl.int64) * maps * tokens + row) * states + index
                    if C_KIND == 'token':
                        dC = sum_channels(dy[None, :] * after, FAST_SUMS)
                        tl.store(grad_C + spot, dC, real & (t < length))
                    if C_KIND == 'constant':
                        C_sum += dy[None, :] * after
                    if B_KIND == 'token':
                        dB = sum_channels(grad_state * (dt * u)[None, :], FAST_SUMS)
                        tl.store(grad_B + spot, dB, real & (t < length))
                    if B_KIND == 'constant':
                        B_sum += grad_state * (dt * u)[None, :]
                    drive = tl.sum(grad_state * B_t, axis=0)
                    du = drive * dt
                    if HAS_D:
                        du += skip * dy
                        D_sum += dy * u
                    grad_state *= tl.exp2(dt[None, :] * A_log2)
                    exponent = grad_state * h
                    A_sum += exponent * dt[None, :]
                    ddt = drive * u + tl.sum(exponent * A_log2, axis=0) * LN2
                    if SOFTPLUS:
                        ddt *= softplus_grad(dt)
                    bias_sum += tl.where(alive, ddt, 0)
                    where = row * channels + channel
                    tl.store(grad_x + where, du.to(grad_x.dtype.element_ty), alive)
                    tl.store(grad_delta + where, ddt.to(grad_delta.dtype.element_ty), alive)
                    after = h

    row = group.to(tl.int64) * channels + channel
    store_matrix(grad_A, A_sum, row, valid, states, STATES)
    if B_KIND == 'constant':
        store_matrix(grad_B, B_sum, row, valid, states, STATES)
    if C_KIND == 'constant':
        store_matrix(grad_C, C_sum, row, valid, states, STATES)
    if HAS_D:
        tl.store(grad_D + row, D_sum, valid)
    if HAS_BIAS:
        tl.store(grad_bias + row, bias_sum, valid)
