"""A map times the SiLU of another map, forward and backward."""

import triton
import triton.language as tl

from .elementary import silu, silu_grad

__all__ = ['gate_backward_kernel', 'gate_forward_kernel']


@triton.jit(do_not_specialize=['tokens'])
def gate_forward_kernel(
    x,
    z,
    y,
    tokens,
    channels,
    x_token,
    z_token,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Compute ``y = x * silu(z)``, all (tokens, E). Grid: (token tiles, channel blocks)."""
    row = (tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)).to(tl.int64)[:, None]
    channel = (tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E))[None, :]
    inside = (row < tokens) & (channel < channels)
    value = tl.load(x + row * x_token + channel, inside, 0).to(tl.float32)
    value *= silu(tl.load(z + row * z_token + channel, inside, 0).to(tl.float32))
    tl.store(y + row * channels + channel, value.to(y.dtype.element_ty), inside)


@triton.jit(do_not_specialize=['tokens'])
def gate_backward_kernel(
    grad_y,
    x,
    z,
    grad_x,
    grad_z,
    y,
    tokens,
    channels,
    x_token,
    z_token,
    grad_z_token,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Compute gradients of ``y = x * silu(z)``, all (tokens, E), and ``y`` again unless it is None.

    Grid: (token tiles, channel blocks).
    """
    row = (tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)).to(tl.int64)[:, None]
    channel = (tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E))[None, :]
    inside = (row < tokens) & (channel < channels)
    where = row * channels + channel
    grad = tl.load(grad_y + where, inside, 0).to(tl.float32)
    value = tl.load(x + row * x_token + channel, inside, 0).to(tl.float32)
    gate = tl.load(z + row * z_token + channel, inside, 0).to(tl.float32)
    opening = silu(gate)
    tl.store(grad_x + where, (grad * opening).to(grad_x.dtype.element_ty), inside)
    if y is not None:
        tl.store(y + where, (value * opening).to(y.dtype.element_ty), inside)
    grad_gate = grad * value * silu_grad(gate)
    to = grad_z + row * grad_z_token + channel
    tl.store(to, grad_gate.to(grad_z.dtype.element_ty), inside)
