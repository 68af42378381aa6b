"""The operators of one direction on the kernels that serve several."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .kernel_set import TRITON, KernelSet
from .scan import ScanInputs

__all__ = ['conv_backward', 'conv_forward', 'scan_backward', 'scan_forward', 'scan_gradients']


def conv_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, direction: str, kernels: KernelSet = TRITON
) -> Tensor:
    """See :func:`mmv2m.ops.directional_conv`."""
    return kernels.convs_forward(x, None, weight, bias, [direction])[0]


def conv_backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    direction: str,
    kernels: KernelSet = TRITON,
) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, weight, bias``."""
    grad_x, _, *partial = kernels.convs_backward(grad_y[None], x, None, weight, bias, [direction])
    return grad_x, *kernels.sum_rows(partial)


def scan_forward(
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
    kernels: KernelSet = TRITON,
) -> Tensor:
    """See :func:`mmv2m.ops.directional_scan`."""
    inputs = _inputs(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction)
    return kernels.scans_forward(inputs)[0]


def scan_backward(
    grad_y: Tensor, *args: Any, gradients: Callable[..., tuple[Tensor | None, ...]] | None = None
) -> tuple[Tensor | None, ...]:
    """What :func:`scan_gradients` finds, in the shapes and dtypes of the tensors among ``args``."""
    found = (gradients or scan_gradients)(grad_y, *args)
    return tuple(_like(grad, value) for grad, value in zip(found, args, strict=False))


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
    delta_softplus: bool,
    direction: str,
    kernels: KernelSet = TRITON,
) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, delta, A, B, C, D, z, delta_bias``, as the kernels leave them.

    In float32 what is summed, with an axis of directions what has tokens.
    """
    inputs = _inputs(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction)
    grads = kernels.scans_backward(grad_y[None], inputs)
    summed = kernels.sum_rows([grads[name] for name in ('A', 'B', 'C', 'D', 'delta_bias')])
    *sides, grad_bias = summed
    return grads['x'], grads['delta'], *sides, grads.get('z'), grad_bias


def _like(grad: Tensor | None, value: Tensor | None) -> Tensor | None:
    """A gradient in the shape and dtype of what it belongs to."""
    return None if grad is None or value is None else grad.reshape(value.shape).to(value.dtype)


def _inputs(
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
) -> ScanInputs:
    """A scan as the only one of several: everything that has tokens gets a leading axis."""
    B, C = (p[None] if p is not None and p.dim() == 4 else p for p in (B, C))
    softplus = 'apply' if delta_softplus else 'none'
    return ScanInputs(*(x[None], delta[None], A, B, C, D, delta_bias, softplus, [direction]), z=z)
