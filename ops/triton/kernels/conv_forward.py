"""Causal depthwise convolution and SiLU, in several directions, on a map that may be gated."""

import triton
import triton.language as tl

from .elementary import silu
from .lanes import RUNTIME, lane_entry

__all__ = ['conv_forward_kernel']


@triton.jit(do_not_specialize=RUNTIME)
def conv_forward_kernel(
    x,
    gate,
    weight,
    bias,
    y,
    length,
    width,
    tokens,
    channels,
    x_token,
    gate_token,
    directions,
    reverse,
    along_h,
    SHARED_X: tl.constexpr,
    HAS_GATE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    TAPS: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Compute ``y[k] = silu(conv_k(x[k] * silu(gate)))`` for the directions along one axis.

    A program owns a block of channels of one lane (row, or column if along_h) in one direction. It
    walks along the lane with the last TAPS inputs in registers, and loads STEPS tokens at a time.

    Shapes: x (K, tokens, E), or (tokens, E) if SHARED_X; gate (tokens, E); weight (E, TAPS); bias
    (E,); y (K, tokens, E). ``*_token`` is the distance between tokens. Nibble i of ``directions``
    is the k of this launch's direction i, and bit i of ``reverse`` says whether it goes backwards.
    Grid: (channel blocks * lanes, directions).
    """
    blocks = tl.cdiv(channels, BLOCK_E)
    i = tl.program_id(1)
    k = ((directions >> (4 * i)) & 15).to(tl.int64)
    channel = (tl.program_id(0) % blocks) * BLOCK_E + tl.arange(0, BLOCK_E)
    valid = channel < channels
    lane = tl.program_id(0) // blocks
    token, step = lane_entry(lane, (reverse >> i) & 1, length, width, along_h)

    offset = tl.zeros((BLOCK_E,), tl.float32)
    if HAS_BIAS:
        offset = tl.load(bias + channel, valid, 0)
    taps, past = (), ()
    for tap in tl.static_range(TAPS):
        taps = taps + (tl.load(weight + channel * TAPS + tap, valid, 0),)
        if tap > 0:
            past = past + (tl.zeros((BLOCK_E,), tl.float32),)

    x_row = x + (token if SHARED_X else token + k * tokens) * x_token + channel
    y_row = y + (token + k * tokens) * channels + channel
    gate_row = x_row
    if HAS_GATE:
        gate_row = gate + token * gate_token + channel
    for start in range(0, length, STEPS):
        inputs, gates = (), ()
        for j in tl.static_range(STEPS):
            there = valid & (start + j < length)
            inputs = inputs + (tl.load(x_row + (start + j) * step * x_token, there, 0),)
            if HAS_GATE:
                gates = gates + (tl.load(gate_row + (start + j) * step * gate_token, there, 0),)
        for j in tl.static_range(STEPS):
            current = inputs[j].to(tl.float32)
            if HAS_GATE:
                current *= silu(gates[j].to(tl.float32))
            window = past + (current,)
            linear = offset
            for tap in tl.static_range(TAPS):
                linear += taps[tap] * window[tap]
            where = y_row + (start + j) * step * channels
            tl.store(where, silu(linear).to(y.dtype.element_ty), valid & (start + j < length))
            past = window[1:]
