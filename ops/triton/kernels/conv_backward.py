"""Backward pass of the gated causal depthwise convolution and SiLU, in several directions."""

import triton
import triton.language as tl

from .elementary import silu, silu_grad
from .lanes import RUNTIME, lane_entry

__all__ = ['conv_backward_kernel']


@triton.jit(do_not_specialize=RUNTIME)
def conv_backward_kernel(
    grad_y,
    x,
    gate,
    weight,
    bias,
    grad_x,
    grad_gate,
    grad_weight,
    grad_bias,
    lanes,
    lanes_per_program,
    length,
    width,
    tokens,
    channels,
    x_token,
    gate_token,
    directions,
    reverse,
    along_h,
    adds,
    DIRECTIONS: tl.constexpr,
    SHARED_X: tl.constexpr,
    HAS_GATE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    TAPS: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Compute gradients of ``y[k] = silu(conv_k(x[k] * silu(gate)))`` for walks along one axis.

    A program owns a block of channels and some lanes (rows, or columns if along_h). It walks along
    each lane with the last TAPS inputs and the unfinished input gradients in registers. It loads
    STEPS tokens at a time.

    Shapes: grad_y (K, tokens, E); x, gate, weight and bias as in the forward kernel; grad_x (K,
    tokens, E), or (tokens, E) if SHARED_X; grad_gate (tokens, E); grad_weight (programs along the
    lanes, E, TAPS) and grad_bias (programs along the lanes, E), partial sums. Gradients of tensors
    that directions share are summed over the directions, and added to the present values if
    ``adds``. Grid: (channel blocks * lane groups,).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    group = tl.program_id(0) // blocks
    channel = (tl.program_id(0) % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    valid = channel < channels
    zero = tl.zeros((BLOCK_E,), tl.float32)

    taps, sums, no_past = (), (), ()
    for tap in tl.static_range(TAPS):
        taps = taps + (tl.load(weight + channel * TAPS + tap, valid, 0),)
        sums = sums + (zero,)
        if tap > 0:
            no_past = no_past + (zero,)
    offset = zero
    if HAS_BIAS:
        offset = tl.load(bias + channel, valid, 0)
    bias_sum = zero

    first_lane = group * lanes_per_program
    for turn in range(min(lanes - first_lane, lanes_per_program)):
        for i in range(DIRECTIONS):
            k = ((directions >> (4 * i)) & 15).to(tl.int64)
            token, step = lane_entry(first_lane + turn, (reverse >> i) & 1, length, width, along_h)
            x_first = token if SHARED_X else token + k * tokens
            x_row = x + x_first * x_token + channel
            gate_row = x_row
            if HAS_GATE:
                gate_row = gate + token * gate_token + channel
            grad_row = grad_y + (token + k * tokens) * channels + channel
            inputs, gates, past, unfinished = no_past, no_past, no_past, no_past
            for start in range(0, length + TAPS - 1, STEPS):
                xs, gatings, upstream = (), (), ()
                for j in tl.static_range(STEPS):
                    there, at = valid & (start + j < length), (start + j) * step
                    xs = xs + (tl.load(x_row + at * x_token, there, 0),)
                    upstream = upstream + (tl.load(grad_row + at * channels, there, 0),)
                    if HAS_GATE:
                        gatings = gatings + (tl.load(gate_row + at * gate_token, there, 0),)
                for j in tl.static_range(STEPS):
                    current = xs[j].to(tl.float32)
                    inputs = inputs + (current,)
                    if HAS_GATE:
                        gates = gates + (gatings[j].to(tl.float32),)
                        current *= silu(gates[TAPS - 1])
                    window = past + (current,)
                    linear = offset
                    for tap in tl.static_range(TAPS):
                        linear += taps[tap] * window[tap]
                    grad = upstream[j].to(tl.float32) * silu_grad(linear)
                    bias_sum += grad
                    new_sums, pending = (), ()
                    for tap in tl.static_range(TAPS):
                        new_sums = new_sums + (sums[tap] + grad * window[tap],)
                        if tap < TAPS - 1:
                            pending = pending + (unfinished[tap] + taps[tap] * grad,)
                        else:
                            pending = pending + (taps[tap] * grad,)
                    sums = new_sums

                    # Every tap has read the input of TAPS - 1 steps ago now.
                    t = start + j - (TAPS - 1)
                    done = valid & (t >= 0) & (t < length)
                    again = done & ((i > 0) | (adds == 1))
                    finished = pending[0]
                    if HAS_GATE:
                        where = grad_gate + (token + t * step) * channels + channel
                        through = finished * inputs[0] * silu_grad(gates[0])
                        through += tl.load(where, again, 0).to(tl.float32)
                        tl.store(where, through.to(grad_gate.dtype.element_ty), done)
                        finished *= silu(gates[0])
                        gates = gates[1:]
                    where = grad_x + (x_first + t * step) * channels + channel
                    if SHARED_X:
                        finished += tl.load(where, again, 0).to(tl.float32)
                    tl.store(where, finished.to(grad_x.dtype.element_ty), done)
                    inputs, past, unfinished = inputs[1:], window[1:], pending[1:]

    row = group.to(tl.int64) * channels + channel
    for tap in tl.static_range(TAPS):
        tl.store(grad_weight + row * TAPS + tap, sums[tap], valid)
    if HAS_BIAS:
        tl.store(grad_bias + row, bias_sum, valid)
