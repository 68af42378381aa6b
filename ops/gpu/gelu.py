"""The backward pass of GELU, with sums that it computes while it reads the maps."""

from torch import Tensor

from .kernels import Kernels

__all__ = ['gelu_backward']


def gelu_backward(
    kernels: Kernels, grad: Tensor, x: Tensor, bias: Tensor | None, grad_out: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute ``GELU(x + bias)`` again, and turn its gradient into the gradient of ``x`` in place.

    Args:
        kernels: The kernels.
        grad: Gradient of ``GELU(x + bias)``, (rows, E), contiguous. It is overwritten with the
            gradient of ``x``.
        x: (rows, E).
        bias: (E,), or None.
        grad_out: (rows, D), a gradient whose sum over the rows is wanted too; or None.

    Returns:
        ``GELU(x + bias)``, the gradient of ``bias`` in float32 or None, and the sum of ``grad_out``
        in float32 or None.
    """
    y, grad_bias = kernels.gelu_gradients(grad, x, bias)
    sums = None if grad_out is None else kernels.column_sums(grad_out)
    of_bias, of_out = kernels.sum_rows([grad_bias, sums])
    return y, of_bias, of_out
