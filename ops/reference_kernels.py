"""The ``'reference'`` backend: any device, any floating dtype, no compiler needed.

The forward passes are the definitions in ``reference.py``. The backward passes keep nothing but
the operator's inputs between the two and recompute the rest, so a deep model pays for the states
of one operator at a time. They are written out step by step as a kernel would do it; gradients
sum in a fixed order, so two runs agree to the bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .directions import get_direction
from .precision import without_autocast
from .reference import (
    directional_conv_reference,
    directional_scan_reference,
    seen_by_taps,
    state_dtype,
    token_at,
    weight_taps,
)

__all__ = ['conv_backward', 'conv_forward', 'scan_backward', 'scan_forward']


def scan_forward(x: Tensor, *args: Any) -> Tensor:
    """See :func:`mmv2m.ops.directional_scan`."""
    with without_autocast(x):
        return directional_scan_reference(x, *args)


def conv_forward(x: Tensor, *args: Any) -> Tensor:
    """See :func:`mmv2m.ops.directional_conv`."""
    with without_autocast(x):
        return directional_conv_reference(x, *args)


def _silu_grad(x: Tensor) -> Tensor:
    """Derivative of SiLU at ``x``."""
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate))


def scan_backward(
    grad_y: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    direction: str,
) -> tuple[Tensor | None, ...]:
    """Gradients of the scan for ``x, delta, A, B, C, D, z, delta_bias``.

    With ``u = delta * x`` and ``a[t] = exp(delta[t] * A)`` the states are
    ``h[t] = a[t] * h[t-1] + u[t] * B[t]``; their gradients run against the walk:
    ``g[t] = grad_s[t] * C[t] + a[t+1] * g[t+1]``.
    """
    with without_autocast(x):
        dtype = state_dtype(x)
        raw = delta.to(dtype) if delta_bias is None else delta.to(dtype) + delta_bias
        step = F.softplus(raw) if delta_softplus else raw
        u, grad_s, grad_z = x.to(dtype), grad_y.to(dtype), None
        if z is not None:
            ungated = (u, step, A, B, C, D, None, None, False, direction)
            grad_z = grad_s * directional_scan_reference(*ungated) * _silu_grad(z.to(dtype))
            grad_s = grad_s * F.silu(z.to(dtype))

        grad_drive, grad_step, grad_A, grad_B, grad_C = _walk_back(
            grad_s, step * u, step, A, B, C, direction
        )
        grad_x = grad_drive * step
        grad_step = grad_step + grad_drive * u
        if D is not None:
            grad_x = grad_x + grad_s * D
        grad_raw = grad_step * torch.sigmoid(raw) if delta_softplus else grad_step
        tokens = (0, 1, 2)
        grads = (
            (grad_x, x),
            (grad_raw, delta),
            (grad_A, A),
            (grad_B, B),
            (grad_C, C),
            (None if D is None else (grad_s * u).sum(tokens), D),
            (grad_z, z),
            (None if delta_bias is None else grad_raw.sum(tokens), delta_bias),
        )
        return tuple(None if g is None or p is None else g.to(p.dtype) for g, p in grads)


def _walk_back(
    grad_s: Tensor,
    drive: Tensor,
    step: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    direction: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """The recurrence's own backward pass: gradients of drive, step (in the decay), A, B and C."""
    walk = get_direction(direction)
    axis = walk.axis
    order = list(walk.steps(drive.shape[axis]))
    B_map = None if B is None else B.to(drive.dtype)
    C_map = None if C is None else C.to(drive.dtype)
    grad_drive, grad_step = torch.zeros_like(drive), torch.zeros_like(step)
    grad_A = torch.zeros_like(A)
    grad_B = None if B_map is None else torch.zeros_like(B_map)
    grad_C = None if C_map is None else torch.zeros_like(C_map)

    start = drive.new_zeros(drive.shape[0], drive.shape[walk.lanes], *A.shape)
    decays, states = _walk(start, order, drive, step, A, B_map, axis)
    grad_state = torch.zeros_like(start)
    for i, t in reversed(list(enumerate(order))):
        inflow = drive.select(axis, t).unsqueeze(-1)
        upstream = grad_s.select(axis, t).unsqueeze(-1)
        B_t, C_t = token_at(B_map, axis, t), token_at(C_map, axis, t)
        grad_state = grad_state + (upstream if C_t is None else upstream * C_t)
        if grad_C is not None:
            _add_projection_grad(grad_C, upstream * states[i + 1], axis, t)
        if grad_B is not None:
            _add_projection_grad(grad_B, grad_state * inflow, axis, t)
        through_B = grad_state if B_t is None else grad_state * B_t
        grad_drive.select(axis, t).copy_(through_B.sum(-1))
        grad_state = grad_state * decays[i]
        grad_exponent = grad_state * states[i]
        grad_step.select(axis, t).copy_((grad_exponent * A).sum(-1))
        grad_A += (grad_exponent * step.select(axis, t).unsqueeze(-1)).sum((0, 1))
    return grad_drive, grad_step, grad_A, grad_B, grad_C


def _walk(
    state: Tensor,
    order: list[int],
    drive: Tensor,
    step: Tensor,
    A: Tensor,
    B: Tensor | None,
    axis: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """Decay of every step, and the states before the first and after every step."""
    decays, states = [], [state]
    for t in order:
        decays.append(torch.exp(step.select(axis, t).unsqueeze(-1) * A))
        inflow = drive.select(axis, t).unsqueeze(-1)
        B_t = token_at(B, axis, t)
        states.append(decays[-1] * states[-1] + (inflow if B_t is None else inflow * B_t))
    return decays, states


def _add_projection_grad(grad: Tensor, product: Tensor, axis: int, t: int) -> None:
    """Sum a (B, lanes, E, N) product into the gradient of a projection, whatever its shape."""
    if grad.dim() == 2:
        grad += product.sum((0, 1))
    else:
        grad.select(axis, t).copy_(product.sum(-2))


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
