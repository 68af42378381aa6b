"""Operators on single tokens: the gate at the end of a mixer, and norms of residual sums."""

import torch
from torch import Tensor

from ..precision import state_dtype
from .build import kernels

__all__ = [
    'add_norm_backward',
    'add_norm_forward',
    'gate_backward',
    'gate_forward',
    'side_by_side',
]


def side_by_side(x: Tensor) -> Tensor:
    """Copy a tensor if the channels of a token are not adjacent, as the kernels read them."""
    return x if x.stride(-1) == 1 else x.contiguous()


def gate_forward(x: Tensor, z: Tensor) -> Tensor:
    """Compute ``x * silu(z)`` for two (B, H, W, E) maps of one dtype."""
    y = torch.empty(x.shape, dtype=x.dtype)
    kernels().gate_forward(_rows(x), _rows(z), y)
    return y


def gate_backward(
    grad_y: Tensor, x: Tensor, z: Tensor, target: Tensor | None = None, again: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute the gradients of the gate, and optionally its result again.

    Args:
        grad_y: Gradient of the result of :func:`gate_forward`.
        x: (B, H, W, E).
        z: Like ``x``.
        target: A map like ``z``, with tokens at equal distances, to which the gradient of ``z`` is
            written.
        again: Whether to return the result of :func:`gate_forward` too.

    Returns:
        The gradient of ``x``; the gradient of ``z``, or None if there is a ``target``; and the
        result again, or None.
    """
    grad_x = torch.empty(x.shape, dtype=x.dtype)
    grad_z = torch.empty(x.shape, dtype=x.dtype) if target is None else target
    y = torch.empty(x.shape, dtype=x.dtype) if again else None
    kernels().gate_backward(*map(_rows, (grad_y, x, z)), grad_x, grad_z, y)
    return grad_x, grad_z if target is None else None, y


def add_norm_forward(
    branch: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """See :func:`mmv2m.ops.add_norm`."""
    normed = torch.empty(branch.shape, dtype=branch.dtype)
    total = torch.empty(branch.shape, dtype=state_dtype(branch))
    parameters = weight, bias, _without_gaps(factor), eps
    kernels().add_norm_forward(_rows(branch), _rows(residual), *parameters, normed, total)
    return normed, total


def add_norm_backward(
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
    grad_branch = torch.empty(total.shape, dtype=grad_normed.dtype)
    grad_residual = torch.empty(total.shape, dtype=(grad_branch if begins else total).dtype)
    grad_weight, grad_bias = kernels().add_norm_backward(
        *map(_rows, (grad_normed, grad_total, total)),
        *(weight, bias, _without_gaps(factor), eps, grad_branch, grad_residual),
    )
    return grad_branch, grad_residual, grad_weight, None if bias is None else grad_bias


def _rows(x: Tensor) -> Tensor:
    """View a map as (tokens, channels), with adjacent channels and tokens at equal distances."""
    return side_by_side(x.flatten(0, -2))


def _without_gaps(factor: Tensor | None) -> Tensor | None:
    return None if factor is None else factor.contiguous()
