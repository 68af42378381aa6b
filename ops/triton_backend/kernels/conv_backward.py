"""Backward pass of the causal depthwise convolution and SiLU, in several directions."""

import triton
import triton.language as tl

from .elementary import silu_grad

__all__ = ['conv_backward_kernel']


@triton.jit
def conv_backward_kernel(
    grad_y,
    x,
    weight,
    bias,
    grad_x,
    grad_weight,
    grad_bias,
    lanes,
    lanes_per_program,
    length,
    width,
    tokens,
    channels,
    x_token,
    directions,
    reverse,
    ALONG_H: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    SHARED_X: tl.constexpr,
    ADDS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Gradients of ``y[k] = silu(conv_k(x[k]))`` for the directions along one axis.

    A program owns a block of channels and some lanes (rows, or columns if ALONG_H), and walks along
    each with the last TAPS inputs and the unfinished input gradients in registers.

    Shapes: grad_y (K, tokens, E); x as in the forward kernel; grad_x (K, tokens, E), or (tokens, E)
    if SHARED_X, where directions add up, to what is there already if ADDS; grad_weight (programs
    along the lanes, E, TAPS) and grad_bias (programs along the lanes, E), partial sums.
    Nibble i of ``directions`` is the k of this launch's direction i, bit i of ``reverse`` its
    sense. Grid: (channel blocks * lane groups,).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    group = tl.program_id(0) // blocks
    channel = (tl.program_id(0) % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    valid = channel < channels
    dtype: tl.constexpr = weight.dtype.element_ty
    zero = tl.zeros((BLOCK_E,), dtype)

    taps, sums, no_past = (), (), ()
    for tap in tl.static_range(TAPS):
        taps = taps + (tl.load(weight + channel * TAPS + tap, valid, 0),)
        sums = sums + (zero,)
    for _ in tl.static_range(TAPS - 1):
        no_past = no_past + (zero,)
    offset = zero
    if HAS_BIAS:
        offset = tl.load(bias + channel, valid, 0)
    bias_sum = zero

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
            k = ((directions >> (4 * i)) & 15).to(tl.int64)
            backwards = (reverse >> i) & 1
            step = tl.where(backwards == 1, -stride, stride)
            entry = start + backwards * (length - 1) * stride
            x_first = entry if SHARED_X else entry + k * tokens
            past, unfinished = no_past, no_past
            x_row = x + x_first * x_token + channel
            grad_row = grad_y + (entry + k * tokens) * channels + channel
            x_ahead = tl.load(x_row, valid, 0)
            grad_ahead = tl.load(grad_row, valid, 0)
            for t in range(length + TAPS - 1):
                current, upstream = x_ahead, grad_ahead
                # What the next step reads is on its way while this one computes.
                more = valid & (t + 1 < length)
                x_row += step * x_token
                grad_row += step * channels
                x_ahead = tl.load(x_row, more, 0)
                grad_ahead = tl.load(grad_row, more, 0)
                window = past + (current.to(dtype),)
                linear = offset
                for tap in tl.static_range(TAPS):
                    linear += taps[tap] * window[tap]
                grad = upstream.to(dtype) * silu_grad(linear)
                bias_sum += grad
                new_sums = ()
                pending = ()
                for tap in tl.static_range(TAPS):
                    new_sums = new_sums + (sums[tap] + grad * window[tap],)
                    if tap < TAPS - 1:
                        pending = pending + (unfinished[tap] + taps[tap] * grad,)
                    else:
                        pending = pending + (taps[tap] * grad,)
                sums = new_sums
                # What entered TAPS - 1 steps ago has been seen by every tap now.
                where = (x_first + (t - TAPS + 1) * step) * channels + channel
                done = valid & (t >= TAPS - 1)
                finished = pending[0]
                if SHARED_X:
                    finished += tl.load(grad_x + where, done & ((i > 0) | ADDS), 0).to(dtype)
                tl.store(grad_x + where, finished.to(grad_x.dtype.element_ty), done)
                past = window[1:]
                unfinished = pending[1:]

    row = group.to(tl.int64) * channels + channel
    for tap in tl.static_range(TAPS):
        tl.store(grad_weight + row * TAPS + tap, sums[tap], valid)
    if HAS_BIAS:
        tl.store(grad_bias + row, bias_sum, valid)
