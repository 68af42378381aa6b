"""Where the gradients of a convolution's map and gate go: anew, or added to what is there."""

import torch
from torch import Tensor

from .layout import check_into

__all__ = ['ConvGradients', 'Into', 'add_in_place', 'kernels_add', 'make_gradients']

Into = tuple[Tensor | None, Tensor | None]
"""What the gradients of ``x`` and ``gate`` are added to; None for one that is made anew."""

ConvGradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Gradients of ``x`` and ``gate``, and partial sums of those of the weight and the bias; the last
three may be missing."""


def kernels_add(into: Into, x: Tensor, gate: Tensor | None) -> bool:
    """Whether the kernels, which add to all that directions share and to nothing else, do this.

    Raises:
        ValueError: If what is added to is not like the gradient, or there is no gradient.
    """
    of_x, of_gate = into
    if gate is None and of_gate is not None:
        raise ValueError('without a gate there is no gradient of it to be added')
    for there, value in ((of_x, x), (of_gate, gate)):
        if there is not None and value is not None:
            check_into(there, value.shape, value.dtype)
    return (of_x is not None) == (x.dim() == 4) and (of_gate is None) == (gate is None)


def make_gradients(
    x: Tensor, gate: Tensor | None, into: Into | None
) -> tuple[Tensor, Tensor | None]:
    """What the kernels leave the gradients of ``x`` and ``gate`` in."""
    of_x, of_gate = into or (None, None)
    if of_x is None:
        of_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if of_gate is None and gate is not None:
        of_gate = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    return of_x, of_gate


def add_in_place(into: Into, gradients: ConvGradients) -> ConvGradients:
    """Add the gradients of ``x`` and ``gate`` where they go, which stands in their place then."""
    of_x, of_gate = into
    grad_x, grad_gate, grad_weight, grad_bias = gradients
    if of_x is not None:
        grad_x = of_x.add_(grad_x)
    if of_gate is not None and grad_gate is not None:
        grad_gate = of_gate.add_(grad_gate)
    return grad_x, grad_gate, grad_weight, grad_bias
