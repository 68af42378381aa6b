"""Linear layers inside of operators, whose products are in the dtype of the maps.

The weights may have the dtype in which they are trained.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import products_like

__all__ = [
    'cast_weights',
    'casts_like',
    'input_gradient',
    'project',
    'project_backward',
    'projected_like',
    'recall_weights',
    'weight_gradient',
]

FLOAT32_PRODUCTS = 'dtype' in torch.ops.aten.mm.overloads()
"""Whether PyTorch's products of half precision can return float32: since 2.8, on GPUs."""

HALVES = (torch.float16, torch.bfloat16)


def cast_weights(weights: Sequence[Tensor], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Cast weights to the dtype of x, and return also those that are copies, to be kept."""
    cast = [weight.to(x.dtype) for weight in weights]
    return cast, [c for c, weight in zip(cast, weights, strict=True) if weight.dtype != x.dtype]


def casts_like(weights: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Empty tensors like the copies that :func:`cast_weights` returns."""
    return [w.new_empty(w.shape, dtype=x.dtype) for w in weights if w.dtype != x.dtype]


def recall_weights(
    weights: Sequence[Tensor], x: Tensor, kept: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Take the copies of :func:`cast_weights` from the end of the kept tensors.

    Args:
        weights: The weights as they are trained.
        x: A tensor in the dtype of the products.
        kept: Kept tensors, the copies last.

    Returns:
        All weights in the dtype of ``x``, and the kept tensors in front of the copies.
    """
    first = len(kept) - sum(weight.dtype != x.dtype for weight in weights)
    made = iter(kept[first:])
    return [w if w.dtype == x.dtype else next(made) for w in weights], list(kept[:first])


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``linear(x, weight, bias)`` in the dtype of x.

    Args:
        x: (..., E).
        weight: (D, E), of any floating dtype.
        bias: (D,), of any floating dtype; or None.

    Returns:
        (..., D).
    """
    with products_like(x):
        return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def projected_like(x: Tensor, weight: Tensor) -> Tensor:
    """An empty tensor like the result of :func:`project`."""
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def project_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of a linear layer's input and weight.

    Args:
        grad_y: (..., D), the gradient of the result, in the dtype of ``x``.
        x: (..., E), the input.
        weight: (D, E), in the dtype of ``x``.
        dtype: Dtype of the trained weight.

    Returns:
        The gradient of ``x``, (..., E), and the gradient of the weight, (D, E) in ``dtype``.
    """
    return input_gradient(grad_y, weight), weight_gradient(grad_y, x, dtype)


def input_gradient(grad_y: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a linear layer's input: (..., D) times (D, E) of one dtype is (..., E)."""
    with products_like(grad_y):
        flat = torch.mm(grad_y.flatten(0, -2), weight)
    return flat.view(*grad_y.shape[:-1], weight.shape[1])


def weight_gradient(grad_y: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The gradient of a linear layer's weight, summed over all tokens.

    GPUs sum half precision products in float32. For a float32 parameter, that sum is returned as it
    is, which takes 3 to 5 us less than to round it and to cast it back.

    Args:
        grad_y: (..., D), the gradient of the result.
        x: (..., E), the input, in the same dtype.
        dtype: Dtype of the trained weight.

    Returns:
        (D, E) in ``dtype``.
    """
    flat, rows = grad_y.flatten(0, -2).t(), x.flatten(0, -2)
    with products_like(x):
        if FLOAT32_PRODUCTS and x.is_cuda and x.dtype in HALVES and dtype == torch.float32:
            return torch.mm(flat, rows, out_dtype=dtype)
        return torch.mm(flat, rows).to(dtype)
