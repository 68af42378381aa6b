"""Linear layers inside of operators: weights as they are trained, products as the maps are."""

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
"""Whether products may be in another dtype than what they are of: since PyTorch 2.8, on GPUs."""

HALVES = (torch.float16, torch.bfloat16)


def cast_weights(weights: Sequence[Tensor], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Weights in the dtype of x; and those of them that are new, to be kept for gradients."""
    cast = [weight.to(x.dtype) for weight in weights]
    return cast, [c for c, weight in zip(cast, weights, strict=True) if weight.dtype != x.dtype]


def casts_like(weights: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """What :func:`cast_weights` has kept, empty."""
    return [w.new_empty(w.shape, dtype=x.dtype) for w in weights if w.dtype != x.dtype]


def recall_weights(
    weights: Sequence[Tensor], x: Tensor, kept: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights in the dtype of x again, from the last tensors kept; and the tensors before these."""
    first = len(kept) - sum(weight.dtype != x.dtype for weight in weights)
    made = iter(kept[first:])
    return [w if w.dtype == x.dtype else next(made) for w in weights], list(kept[:first])


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``linear(x, weight, bias)`` in the dtype of x.

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
    """What :func:`project` returns, not filled in."""
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def project_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Gradients of x, and of the weight in ``dtype``.

    Args:
        grad_y: (tokens or more axes, D), in the dtype of x.
        x: (tokens or more axes, E), in the same dtype.
        weight: (D, E), in the dtype of x.
        dtype: The parameter's.
    """
    return input_gradient(grad_y, weight), weight_gradient(grad_y, x, dtype)


def input_gradient(grad_y: Tensor, weight: Tensor) -> Tensor:
    """(..., D) by (D, E), in one dtype: (..., E)."""
    with products_like(grad_y):
        flat = torch.mm(grad_y.flatten(0, -2), weight)
    return flat.view(*grad_y.shape[:-1], weight.shape[1])


def weight_gradient(grad_y: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., D) by (..., E), with the same leading axes: (D, E) in ``dtype``, summed over these.

    GPUs sum half precision products in float32, and leave that to a float32 parameter: 3 to 5 us
    less than rounding it and casting it back.
    """
    flat, rows = grad_y.flatten(0, -2).t(), x.flatten(0, -2)
    with products_like(x):
        if FLOAT32_PRODUCTS and x.is_cuda and x.dtype in HALVES and dtype == torch.float32:
            return torch.mm(flat, rows, out_dtype=dtype)
        return torch.mm(flat, rows).to(dtype)
