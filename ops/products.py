"""Linear layers inside of operators: weights as they are trained, products as the maps are."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import products_like

__all__ = ['input_gradient', 'project', 'project_backward', 'weight_gradient']

MM_OVERLOADS = torch.ops.aten.mm.overloads()
HALVES = (torch.float16, torch.bfloat16)


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``linear(x, weight, bias)`` in the dtype of x.

    Args:
        x: (..., E).
        weight: (D, E), of any floating dtype.
        bias: (D,), likewise; or None.

    Returns:
        (..., D).
    """
    with products_like(x):
        return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def project_backward(grad_y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the weight, each in its dtype.

    Args:
        grad_y: (tokens or more axes, D), in the dtype of x.
        x: Likewise, E.
        weight: (D, E), of any floating dtype.
    """
    return input_gradient(grad_y, weight), weight_gradient(grad_y, x, weight.dtype)


def input_gradient(grad_y: Tensor, weight: Tensor) -> Tensor:
    """(..., D) by (D, E): (..., E), in the dtype of the first."""
    with products_like(grad_y):
        flat = torch.mm(grad_y.flatten(0, -2), weight.to(grad_y.dtype))
    return flat.view(*grad_y.shape[:-1], weight.shape[1])


def weight_gradient(grad_y: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., D) and (..., E): (D, E), summed over all tokens.

    Sums of half precision numbers are float32 on a GPU and, if that is asked for, left so.
    """
    flat, rows = grad_y.flatten(0, -2).t(), x.flatten(0, -2)
    with products_like(x):
        if (
            x.is_cuda
            and x.dtype in HALVES
            and dtype == torch.float32
            and 'dtype' in MM_OVERLOADS  # since PyTorch 2.8
        ):
            return torch.mm(flat, rows, out_dtype=dtype)
        return torch.mm(flat, rows).to(dtype)
