"""LayerNorm or RMSNorm of a map over its channels."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend, has
from .checks import check_channels, check_floating, check_parameter
from .operator import differentiate_from_inputs, like_inputs, like_x, operator, present
from .precision import state_dtype, without_autocast

__all__ = ['channel_norm']


def channel_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    offset: Tensor | None = None,
    backend: str = 'auto',
) -> Tensor:
    """Apply LayerNorm or RMSNorm to the last axis of ``x + offset``, in the dtype of ``x``.

    The offset is meant for the bias of a layer in front. If that layer added it, it would need a
    pass over the map of its own, and another one for the gradient.

    Means and variances are float32, or float64 for float64. That holds under autocast too, and a
    half precision map is neither read nor written as float32. Only the input is kept for the
    backward pass.

    Args:
        x: (..., D); float16, bfloat16, float32 or float64.
        weight: (D,).
        bias: (D,) for LayerNorm; None for RMSNorm.
        eps: Added to the variance, or to the mean square for RMSNorm.
        offset: (D,), or None.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (..., D) in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    check_channels('x', x)
    check_floating('weight', weight)
    check_parameter('weight', weight, (x.shape[-1],), x)
    check_parameter('bias', bias, (x.shape[-1],), x)
    check_parameter('offset', offset, (x.shape[-1],), x)
    exact = state_dtype(x)
    weight = weight.to(exact)
    bias, offset = (None if p is None else p.to(exact) for p in (bias, offset))
    backend = choose_backend(backend, x)
    if has(backend, 'norm_forward'):
        return _channel_norm(x, weight, bias, offset, eps, backend)
    with without_autocast(x):
        if offset is not None:
            x = (x + offset).to(x.dtype)
        shape = (x.shape[-1],)
        if bias is None:
            return F.rms_norm(x.to(exact), shape, weight, eps).to(x.dtype)
        # PyTorch's LayerNorm takes tensors of one dtype, and computes in at least float32.
        return F.layer_norm(x, shape, weight.to(x.dtype), bias.to(x.dtype), eps)


@operator('channel_norm', like_x)
def _channel_norm(*args: Any) -> Tensor:
    *inputs, backend = args
    return BACKENDS[backend].norm_forward(*inputs)


@operator('channel_norm_backward', like_inputs)
def _channel_norm_backward(grad_y: Tensor, *args: Any) -> list[Tensor]:
    *inputs, backend = args
    return present(BACKENDS[backend].norm_backward(grad_y, *inputs))


differentiate_from_inputs(_channel_norm, _channel_norm_backward)
