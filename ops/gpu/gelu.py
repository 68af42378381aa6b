"""The backward pass of GELU, with sums that it finds while it reads the maps."""

from torch import Tensor

from .kernels import Kernels

__all__ = ['gelu_backward']


def gelu_backward(
    kernels: Kernels, grad: Tensor, x: Tensor, bias: Tensor | None, grad_out: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``GELU(x + bias)`` again, while the gradient of ``x`` takes the place of its own.

    Args:
        kernels: What launches kernels.
        grad: Gradient of ``GELU(x + bias)``, (rows, E), contiguous; is overwritten with that of
            ``x``.
        x: (rows, E).
        bias: (E,), or None.
        grad_out: (rows, D), what ``grad`` comes from, whose sum over the rows is wanted too; or
            None.

    Returns:
        ``GELU(x + bias)``, and, in float32, the gradient of ``bias`` and the sum of ``grad_out``;
        None for those that are not asked for.
    """
    y, grad_bias = kernels.gelu_gradients(grad, x, bias)
    sums = None if grad_out is None else kernels.column_sums(grad_out)
    of_bias, of_out = kernels.sum_rows([grad_bias, sums])
    return y, of_bias, of_out
