"""Norms of maps over their channels, alone or of a sum with the residual stream."""

import torch
from torch import Tensor

from ..precision import state_dtype
from .kernels import Kernels

__all__ = [
    'add_norm_backward',
    'add_norm_forward',
    'image_rows',
    'norm_backward',
    'norm_forward',
]


def norm_forward(
    kernels: Kernels,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    eps: float,
) -> Tensor:
    """See :func:`mmv2m.ops.channel_norm`."""
    x = x.contiguous()
    normed = torch.empty_like(x)
    kernels.norm_rows(x, None, weight, bias, offset, None, normed, None, eps)
    return normed


def norm_backward(
    kernels: Kernels,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """Compute gradients of ``x, weight, bias, offset``, the first in the dtype of ``grad``."""
    x, grad = x.contiguous(), grad.contiguous()
    grad_x = torch.empty_like(grad)
    partial = kernels.norm_gradients(grad, None, x, weight, bias, offset, None, grad_x, None, eps)
    return grad_x, *kernels.sum_rows(partial)


def add_norm_forward(
    kernels: Kernels,
    branch: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """See :func:`mmv2m.ops.add_norm`."""
    branch, residual = branch.contiguous(), residual.contiguous()
    normed, total = torch.empty_like(branch), torch.empty_like(branch, dtype=state_dtype(branch))
    kernels.norm_rows(branch, residual, weight, bias, None, factor, normed, total, eps)
    return normed, total


def add_norm_backward(
    kernels: Kernels,
    grad_normed: Tensor,
    grad_total: Tensor,
    total: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    eps: float,
    begins: bool = False,
) -> tuple[Tensor | None, ...]:
    """Compute gradients of ``branch, residual, weight, bias``.

    The gradient of ``branch`` has the dtype of ``grad_normed``. The gradient of ``residual`` has
    the same dtype if the stream ``begins`` with the residual, and otherwise the dtype of ``total``.
    """
    grad_normed, grad_total = grad_normed.contiguous(), grad_total.contiguous()
    grad_branch = torch.empty_like(grad_normed)
    grad_residual = torch.empty_like(grad_branch if begins else total)
    read = (grad_normed, grad_total, total, weight, bias, None, factor)
    *partial, _ = kernels.norm_gradients(*read, grad_branch, grad_residual, eps)
    return grad_branch, grad_residual, *kernels.sum_rows(partial)


def image_rows(rows: int, factor: Tensor | None) -> int:
    """The number of a map's rows per image, or 1 without a factor, where it is not read."""
    return max(1, rows // factor.numel()) if factor is not None and factor.numel() else 1
