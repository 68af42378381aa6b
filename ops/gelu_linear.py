"""The public operator that activates tokens and projects them: the end of an MLP."""

import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend
from .checks import check_floating, check_parameter, check_weight
from .library import gelu_linear_op
from .precision import without_autocast

__all__ = ['gelu_linear']


def gelu_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    inner_bias: Tensor | None = None,
    backend: str = 'auto',
) -> Tensor:
    """``linear(GELU(x + inner_bias))`` with the exact GELU, ``x * (1 + erf(x / sqrt(2))) / 2``.

    A backend may compute the GELU again in the backward pass instead of keeping it: half of what an
    MLP keeps of its hidden layer. And it may find the biases' gradients while it reads the maps for
    others: the linear layer in front leaves its bias to this one.

    Args:
        x: (..., E); float16, bfloat16, float32 or float64.
        weight: (D, E); used in the dtype of ``x``.
        bias: (D,), likewise; or None.
        inner_bias: (E,), or None.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (..., D) in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    check_floating('x', x)
    if not x.dim():
        raise ValueError('x must have an axis of channels, but is a single number')
    check_weight(weight, x)
    check_parameter('bias', bias, (weight.shape[0],), x)
    check_parameter('inner_bias', inner_bias, (x.shape[-1],), x)
    backend = choose_backend(backend, x)
    weight = weight.to(x.dtype)
    if BACKENDS[backend].gelu_forward is not None:
        return gelu_linear_op(x, weight, bias, inner_bias, backend)
    with without_autocast(x):
        if inner_bias is not None:
            x = x + inner_bias.to(x.dtype)
        return F.linear(F.gelu(x), weight, None if bias is None else bias.to(x.dtype))
