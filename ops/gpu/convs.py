"""Convolutions of one or several maps in several directions at once."""

from torch import Tensor

from ..directions import read_directions
from .kernels import Kernels

__all__ = ['convs_backward', 'convs_forward']


def convs_forward(
    kernels: Kernels, x: Tensor, weight: Tensor, bias: Tensor | None, directions: str
) -> Tensor:
    """See :func:`mmv2m.ops.directional_conv`; directions as text."""
    return kernels.convs_forward(x, None, weight, bias, read_directions(directions))


def convs_backward(
    kernels: Kernels,
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    directions: str,
) -> tuple[Tensor | None, ...]:
    """Compute gradients of ``x, weight, bias``."""
    conv = (x, None, weight, bias, read_directions(directions))
    grad_x, _, *partial = kernels.convs_backward(grad_y, *conv)
    return grad_x, *kernels.sum_rows(partial)
