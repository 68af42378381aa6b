"""The scan: the recurrence of a state space model along rows or columns."""

from torch import Tensor

from .backend_operator import backend_operator
from .backends import choose_backend
from .checks import check_floating, check_map, check_parameter, check_projection, check_same_map
from .directions import Direction, get_direction
from .operator import (
    differentiate_again,
    like_x,
    spread,
)
from .precision import state_dtype
from .reference import directional_scan_reference

__all__ = ['directional_scan', 'scan_gradients']


def directional_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    direction: str | Direction = 'right',
    backend: str = 'auto',
) -> Tensor:
    r"""Scan a channels-last map selectively along one axis (V2M, Eq. 9 and 12).

    Every row (``'right'``, ``'left'``) or column (``'down'``, ``'up'``) is a sequence of its own.
    For step ``t`` of the walk, channel ``e`` and state ``n``

    .. math::
        \Delta_t &= \mathrm{softplus}(delta_t + delta\_bias) \\
        h_t[e, n] &= \exp(\Delta_t[e] A[e, n])\, h_{t-1}[e, n] + \Delta_t[e]\, B_t[n]\, x_t[e] \\
        y_t[e] &= \Big(\sum_n C_t[n]\, h_t[e, n] + D[e]\, x_t[e]\Big)\, \mathrm{SiLU}(z_t[e])

    where the softplus, the bias, the skip ``D`` and the gate ``z`` are left out if they are not
    given. A 1D sequence is a map of height 1. States and sums are float32 (float64 if ``x`` is
    float64), also under autocast. Gradients are summed in a fixed order.

    Args:
        x: Input map, (B, H, W, E), in float16, bfloat16, float32 or float64. Any strides and sizes
            are allowed, including 0.
        delta: Time step before bias and softplus, like ``x``.
        A: Evolution parameter, (E, N), real; negative for a decaying state.
        B: Input projection: (B, H, W, N) per token, in the dtype of ``x``; (E, N) if it is
            constant; or None for the constant 1 (Eq. 12).
        C: Output projection, like ``B``; None for the constant 1 (Eq. 11).
        D: Skip, (E,).
        z: Gate, like ``x``.
        delta_bias: Added to ``delta``, (E,).
        delta_softplus: Whether ``delta`` goes through a softplus.
        direction: A direction, or its name: ``'right' | 'left' | 'down' | 'up'``.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (B, H, W, E) in the dtype of ``x``, contiguous.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, the direction or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    check_map('x', x)
    check_floating('delta', delta)
    check_same_map('delta', delta, x)
    if not isinstance(A, Tensor) or A.dim() != 2:
        raise ValueError(f'A must be an (E, N) tensor, but is {getattr(A, "shape", A)}')
    check_parameter('A', A, (x.shape[-1], A.shape[-1]), x)
    check_projection('B', B, A.shape[-1], x)
    check_projection('C', C, A.shape[-1], x)
    check_parameter('D', D, (x.shape[-1],), x)
    check_same_map('z', z, x)
    check_parameter('delta_bias', delta_bias, (x.shape[-1],), x)
    way = get_direction(direction).name
    backend = choose_backend(backend, x)
    tensors = _exact_parameters(x, delta, A, B, C, D, z, delta_bias)
    return _scan(*tensors, delta_softplus, way, backend)


def scan_gradients(
    grad_y: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool = False,
) -> list[Tensor | None]:
    """Compute gradients of a :func:`directional_scan` to the right, for code that avoids autograd.

    ``grad_y`` is the gradient of the output, (B, H, W, E), in the dtype of ``x``. The other
    arguments are those of :func:`directional_scan`, and are not checked again.

    Returns:
        Gradients of ``x, delta, A, B, C, D, z, delta_bias``, or None for tensors that are None.
    """
    tensors = _exact_parameters(x, delta, A, B, C, D, z, delta_bias)
    options = (delta_softplus, 'right', choose_backend('auto', x))
    return spread(_scan_backward(grad_y, *tensors, *options), tensors)


def _exact_parameters(x: Tensor, delta: Tensor, *parameters: Tensor | None) -> list[Tensor | None]:
    """Cast parameters that are no maps to the dtype of the states."""
    dtype = state_dtype(x)
    exact = (p.to(dtype) if p is not None and p.dim() < 3 else p for p in parameters)
    return [x, delta, *exact]


_scan, _scan_backward = backend_operator('directional_scan', 'scan', like_x)
differentiate_again(_scan_backward, directional_scan_reference)
