"""Operators for one direction, on kernels for several directions."""

from typing import Any

from torch import Tensor

from ..directions import get_direction
from .convs import convs_backward, convs_forward
from .kernels import Kernels
from .scan_inputs import ScanInputs

__all__ = ['as_like', 'conv_backward', 'conv_forward', 'scan_forward', 'scan_gradients']


def conv_forward(
    kernels: Kernels, x: Tensor, weight: Tensor, bias: Tensor | None, direction: str
) -> Tensor:
    """See :func:`mmv2m.ops.directional_conv`."""
    return convs_forward(kernels, x, weight, bias, direction)[0]


def conv_backward(kernels: Kernels, grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Compute gradients of ``x, weight, bias``."""
    return convs_backward(kernels, grad_y[None], *args)


def scan_forward(kernels: Kernels, *args: Any) -> Tensor:
    """Run :func:`mmv2m.ops.directional_scan`, given its arguments without the backend."""
    return kernels.scans_forward(_inputs(*args))[0]


def scan_gradients(kernels: Kernels, grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Compute gradients of ``x, delta, A, B, C, D, z, delta_bias``, as the kernels return them.

    Summed gradients are float32. Gradients of tensors with tokens have an axis of directions.
    """
    grads = kernels.scans_backward(grad_y[None], _inputs(*args))
    summed = kernels.sum_rows([grads[name] for name in ('A', 'B', 'C', 'D', 'delta_bias')])
    *sides, grad_bias = summed
    return grads['x'], grads['delta'], *sides, grads.get('z'), grad_bias


def as_like(found: tuple[Tensor | None, ...], args: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
    """Bring gradients from :func:`scan_gradients` to the shapes and dtypes of the arguments."""
    return tuple(
        None if grad is None or value is None else grad.reshape(value.shape).to(value.dtype)
        for grad, value in zip(found, args, strict=False)
    )


def _inputs(*args: Any) -> ScanInputs:
    """Make the inputs of a single scan, whose tensors with tokens get an axis of directions."""
    x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction = args
    B, C = (p[None] if p is not None and p.dim() == 4 else p for p in (B, C))
    softplus = 'apply' if delta_softplus else 'none'
    ways = [get_direction(direction)]
    return ScanInputs(*(x[None], delta[None], A, B, C, D, delta_bias, softplus, ways), z=z)
