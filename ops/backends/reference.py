"""The ``'reference'`` backend, for any device and any floating dtype, without a compiler.

It computes what ``reference/definition.py`` defines. For the scan, it uses ``reference/walk.py``,
which needs fewer passes.

The backward passes are written by hand. They need only the operator's inputs and compute everything
else again, so a deep model needs memory for the states of one operator at a time. Gradients are
summed in a fixed order, so two runs agree to the bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..directions import get_direction
from ..precision import state_dtype, without_autocast
from ..reference import directional_conv_reference, seen_by_taps, weight_taps
from ..reference.coupled import walk_coupled_back, walk_coupled_forth
from ..reference.walk import on_map, projection_in_order, tokens_in_order, walk_back, walk_forth

__all__ = [
    'DEVICES',
    'conv_backward',
    'conv_forward',
    'coupled_scan_backward',
    'coupled_scan_forward',
    'refusal',
    'scan_backward',
    'scan_forward',
]

DEVICES = None


def refusal(x: Tensor) -> None:
    """Return None, since this backend runs on every input."""


def scan_forward(*args: Any) -> Tensor:
    """Run :func:`mmv2m.ops.directional_scan`, given its arguments without the backend."""
    x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction = args
    with without_autocast(x):
        walk, u = get_direction(direction), x.to(state_dtype(x))
        _, step = _time_step(delta.to(u.dtype), delta_bias, delta_softplus)
        drive, steps = (tokens_in_order(m, walk) for m in (step * u, step))
        projections = (projection_in_order(p, walk, u.dtype) for p in (B, C))
        y = on_map(walk_forth(drive, steps, A.t().contiguous(), *projections), walk, u)
        if D is not None:
            y = y + D * u
        if z is not None:
            y = y * F.silu(z.to(u.dtype))
        return y.to(x.dtype)


def conv_forward(x: Tensor, *args: Any) -> Tensor:
    """See :func:`mmv2m.ops.directional_conv`."""
    with without_autocast(x):
        return directional_conv_reference(x, *args)


def _silu_grad(x: Tensor) -> Tensor:
    """Derivative of SiLU at ``x``."""
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate))


def _time_step(delta: Tensor, bias: Tensor | None, softplus: bool) -> tuple[Tensor, Tensor]:
    """Compute the time step before and after the softplus."""
    raw = delta if bias is None else delta + bias
    return raw, F.softplus(raw) if softplus else raw


def scan_backward(grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Gradients of the scan for ``x, delta, A, B, C, D, z, delta_bias``."""
    x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction = args
    with without_autocast(x):
        walk, u = get_direction(direction), x.to(state_dtype(x))
        raw, step = _time_step(delta.to(u.dtype), delta_bias, delta_softplus)
        grad_y = grad_y.to(u.dtype)
        gate = None if z is None else z.to(u.dtype)
        grad_s = grad_y if gate is None else grad_y * F.silu(gate)

        upstream, drive, steps = (tokens_in_order(m, walk) for m in (grad_s, step * u, step))
        B_, C_ = (projection_in_order(p, walk, u.dtype) for p in (B, C))
        A_ = A.t().contiguous()
        results = walk_back(upstream, drive, steps, A_, B_, C_, wants_y=gate is not None)
        y, grad_drive, grad_step, grad_A, grad_B, grad_C = (on_map(r, walk, u) for r in results)

        grad_x = grad_drive * step
        grad_step = grad_step + grad_drive * u
        if D is not None:
            grad_x = grad_x + grad_s * D
        if gate is not None:
            y = y if D is None else y + D * u
        grad_raw = grad_step * torch.sigmoid(raw) if delta_softplus else grad_step
        grads = (
            (grad_x, x),
            (grad_raw, delta),
            (grad_A, A),
            (grad_B, B),
            (grad_C, C),
            (None if D is None else (grad_s * u).sum((0, 1, 2)), D),
            (None if gate is None else grad_y * y * _silu_grad(gate), z),
            (None if delta_bias is None else grad_raw.sum((0, 1, 2)), delta_bias),
        )
        return tuple(None if g is None or p is None else g.to(p.dtype) for g, p in grads)


def conv_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, direction: str
) -> tuple[Tensor | None, ...]:
    """Gradients of the convolution for ``x, weight, bias``."""
    walk = get_direction(direction)
    with without_autocast(x):
        u = x.to(state_dtype(x))
        linear = weight_taps(u, weight, walk)
        grad = grad_y.to(u.dtype) * _silu_grad(linear if bias is None else linear + bias)
        grad_x = weight_taps(grad, weight, walk.opposite).to(x.dtype)
        per_tap = [(grad * seen).sum((0, 1, 2)) for seen in seen_by_taps(u, weight.shape[1], walk)]
        return grad_x, torch.stack(per_tap, -1), None if bias is None else grad.sum((0, 1, 2))


def coupled_scan_forward(x: Tensor, *args: Any) -> Tensor:
    """Run :func:`mmv2m.ops.coupled_scan`, given its arguments without the backend."""
    with without_autocast(x):
        return walk_coupled_forth(x, *args)


def coupled_scan_backward(grad_y: Tensor, x: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, delta, A, weight, B, C, D, delta_bias``."""
    with without_autocast(x):
        return walk_coupled_back(grad_y, x, *args)
