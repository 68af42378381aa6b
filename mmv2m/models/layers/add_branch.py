"""The sum of the residual stream and a branch, for places where no norm computes it."""

from typing import Any

import torch
from torch import Tensor

from mmv2m.ops.operator import is_watched

__all__ = ['add_branch']


def add_branch(total: Tensor, branch: Tensor, factor: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Compute ``total + factor * branch`` in the dtype of ``total``, and round it once.

    Each map is read or written once, in its own dtype. With PyTorch's operators, autocast would
    cast the branch for ``torch.addcmul``, and cast its gradient back in another pass. A result in
    half precision would be written in float32 first.

    Args:
        total: (B, H, W, D), in float32 or float64.
        branch: (B, H, W, D).
        factor: (B,), without a gradient; or None for 1.
        dtype: Dtype of the result.

    Returns:
        (B, H, W, D) in ``dtype``.
    """
    if factor is not None:
        factor = factor.view(-1, 1, 1, 1)
    # Compilers fuse the steps themselves. Transforms do not support the ``out`` argument.
    if is_watched():
        return (total + (branch if factor is None else branch * factor)).to(dtype)
    return _Sum.apply(total, branch, factor, dtype)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, total: Tensor, branch: Tensor, factor: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(factor)
        ctx.dtypes = total.dtype, branch.dtype
        y = torch.empty_like(total, dtype=dtype)
        if factor is None:
            return torch.add(total, branch, out=y)
        return torch.addcmul(total, branch, factor, out=y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (factor,), (of_total, of_branch) = ctx.saved_tensors, ctx.dtypes
        if factor is None:
            grad_branch = grad.to(of_branch)
        elif torch.is_grad_enabled():  # autograd cannot differentiate a result in ``out``
            grad_branch = (grad * factor).to(of_branch)
        else:
            grad_branch = torch.mul(grad, factor, out=torch.empty_like(grad, dtype=of_branch))
        return grad.to(of_total), grad_branch, None, None
