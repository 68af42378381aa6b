"""The public operator between the blocks of a model: residual sum and norm in one pass."""

import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend
from .checks import check_map, check_parameter
from .library import add_norm_op
from .precision import without_autocast
from .reference import state_dtype

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

    A backend may do both in one pass and, backwards, add the stream's gradient in the same pass;
    only the sum is kept for it. A factor for each image is what stochastic depth multiplies a
    branch by.

    Args:
        branch: (B, H, W, D), what a block adds; float16, bfloat16, float32 or float64.
        residual: (B, H, W, D), the stream, in float32, or float64 with a float64 branch; or, where
            it begins, in the dtype of ``branch``.
        weight: (D,).
        bias: (D,) for LayerNorm; None for RMSNorm.
        eps: Added to the mean square.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        factor: (B,), float32, or float64 with a float64 branch: the sum is ``residual + factor *
            branch``. It has no gradient. None for 1.

    Returns:
        The normalised sum in the dtype of ``branch``, and the sum in float32 or float64.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device or the backend's name is wrong, or ``factor`` asks for a
            gradient.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    check_map('branch', branch)
    exact = state_dtype(branch)
    check_parameter('residual', residual, tuple(branch.shape), branch)
    if residual.dtype not in (exact, branch.dtype):
        raise TypeError(
            f'residual must be {exact} beside a {branch.dtype} branch, or like it, not '
            f'{residual.dtype}'
        )
    check_parameter('weight', weight, (branch.shape[-1],), branch)
    check_parameter('bias', bias, (branch.shape[-1],), branch)
    check_parameter('factor', factor, (branch.shape[0],), branch)
    if factor is not None and factor.requires_grad:
        raise ValueError('factor has no gradient here: multiply the branch by it instead')
    weight = weight.to(exact)
    factor = None if factor is None else factor.to(exact)
    bias = None if bias is None else bias.to(exact)
    backend = choose_backend(backend, branch)
    if BACKENDS[backend].add_norm_forward is not None:
        return add_norm_op(branch, residual, weight, bias, factor, eps, backend)
    with without_autocast(branch):
        scaled = branch if factor is None else branch.to(exact) * factor.view(-1, 1, 1, 1)
        total = residual.to(exact) + scaled
        shape = (branch.shape[-1],)
        if bias is None:
            normed = F.rms_norm(total, shape, weight, eps)
        else:
            normed = F.layer_norm(total, shape, weight, bias, eps)
        return normed.to(branch.dtype), total
