"""The residual sum between the blocks of a model, and the norm of that sum."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend, has
from .checks import check_floating, check_map, check_parameter
from .operator import differentiate, like_inputs, operator, present, spread
from .precision import state_dtype, without_autocast

__all__ = ['add_norm']


def add_norm(
    branch: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    backend: str = 'auto',
    factor: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Add a branch to the residual stream, and normalise the sum over its channels.

    A backend may do both in one pass. In the backward pass, it may then add the stream's gradient
    in the same pass too, and only the sum is kept for that. Stochastic depth passes a ``factor``.

    Args:
        branch: (B, H, W, D), the output of a block, in float16, bfloat16, float32 or float64.
        residual: (B, H, W, D), the stream, in float32, or in float64 with a float64 branch. At the
            beginning of the stream, it may also have the dtype of ``branch``.
        weight: (D,).
        bias: (D,) for LayerNorm; None for RMSNorm.
        eps: Added to the variance, or to the mean square for RMSNorm.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        factor: (B,), a factor for each image, without a gradient: the sum is ``residual + factor *
            branch``. None for 1.

    Returns:
        The normalised sum in the dtype of ``branch``, and the sum in float32, or in float64 with a
        float64 branch. Both are (B, H, W, D).

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device or the backend's name is wrong, or ``factor`` asks for a
            gradient.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    check_map('branch', branch)
    exact = state_dtype(branch)
    for name, value in (('residual', residual), ('weight', weight)):
        check_floating(name, value)
    check_parameter('residual', residual, tuple(branch.shape), branch)
    if residual.dtype not in (exact, branch.dtype):
        raise TypeError(
            f'residual must be {exact} beside a {branch.dtype} branch, or have its dtype, but is '
            f'{residual.dtype}'
        )
    check_parameter('weight', weight, (branch.shape[-1],), branch)
    check_parameter('bias', bias, (branch.shape[-1],), branch)
    check_parameter('factor', factor, (branch.shape[0],), branch)
    if factor is not None and factor.requires_grad:
        raise ValueError('factor gets no gradient here: multiply the branch by it instead')
    weight = weight.to(exact)
    factor = None if factor is None else factor.to(exact)
    bias = None if bias is None else bias.to(exact)
    backend = choose_backend(backend, branch)
    if has(backend, 'add_norm_forward'):
        return _add_norm(branch, residual, weight, bias, factor, eps, backend)
    with without_autocast(branch):
        scaled = branch if factor is None else branch.to(exact) * factor.view(-1, 1, 1, 1)
        total = residual.to(exact) + scaled
        shape = (branch.shape[-1],)
        if bias is None:
            normed = F.rms_norm(total, shape, weight, eps)
        else:
            normed = F.layer_norm(total, shape, weight, bias, eps)
        return normed.to(branch.dtype), total


def _like_sum(branch: Tensor, residual: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    normed, total = like_inputs(branch, branch, residual)
    return normed, total.to(state_dtype(branch))


def _like_summands(
    grad_normed: Tensor, grad_total: Tensor, total: Tensor, *others: Any
) -> list[Tensor]:
    weight, bias, _, _, begins, _ = others
    return like_inputs(total, grad_normed, grad_normed if begins else total, weight, bias)


@operator('add_norm', _like_sum)
def _add_norm(*args: Any) -> tuple[Tensor, Tensor]:
    *inputs, backend = args
    return BACKENDS[backend].add_norm_forward(*inputs)


@operator('add_norm_backward', _like_summands)
def _add_norm_backward(*args: Any) -> list[Tensor]:
    *inputs, backend = args
    return present(BACKENDS[backend].add_norm_backward(*inputs))


def _keep_sum(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    branch, residual, weight, bias, factor, eps, backend = inputs
    ctx.save_for_backward(output[1], weight, bias, factor)
    ctx.options = eps, residual.dtype == branch.dtype, backend


def _backward(ctx: Any, grad_normed: Tensor, grad_total: Tensor) -> tuple[Any, ...]:
    total, weight, bias, factor = ctx.saved_tensors
    given = (grad_normed, grad_total, total, weight, bias, factor)
    grads = _add_norm_backward(*given, *ctx.options)
    return (*spread(grads, (total, total, weight, bias)), None, None, None)


differentiate(_add_norm, _keep_sum, _backward)
