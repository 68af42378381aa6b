"""The exact 2D recurrence on a GPU's kernels, or in PyTorch where kernels do not support it."""

from typing import Any

from torch import Tensor

from ..precision import without_autocast
from ..reference.coupled import walk_coupled_back, walk_coupled_forth
from .kernels import Kernels

__all__ = ['coupled_gradients', 'coupled_scan_forward']


def coupled_scan_forward(kernels: Kernels, x: Tensor, *args: Any) -> Tensor:
    """Run :func:`mmv2m.ops.coupled_scan`, given its arguments without the backend."""
    y = kernels.coupled_scans_forward(x, *args)
    if y is not NotImplemented:
        return y
    with without_autocast(x):
        return walk_coupled_forth(x, *args)


def coupled_gradients(
    kernels: Kernels, grad_y: Tensor, x: Tensor, *args: Any
) -> tuple[Tensor | None, ...]:
    """Compute gradients of ``x, delta, A, weight, B, C, D, delta_bias``.

    The first two have the dtypes of their tensors. From the kernels, the others are float32.
    """
    found = kernels.coupled_scans_backward(grad_y, x, *args)
    if found is not NotImplemented:
        return found
    with without_autocast(x):
        return walk_coupled_back(grad_y, x, *args)
