"""The public operator that is the MLP behind a mixer."""

import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend
from .checks import MapLike, check_channels, check_parameter, check_weight
from .library_mlp import mlp_op
from .precision import like_products, without_autocast
from .products import project

__all__ = ['mlp']


def mlp(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out_weight: Tensor,
    out_bias: Tensor | None,
    backend: str = 'auto',
) -> Tensor:
    """``linear(GELU(linear(x, weight, bias)), out_weight, out_bias)``.

    With the exact GELU, ``x * (1 + erf(x / sqrt(2))) / 2``.

    A backend may compute the GELU again in the backward pass instead of keeping it: half of what an
    MLP keeps of its hidden layer. And it may find the biases' gradients while it reads the maps for
    others.

    Args:
        x: (..., D); float16, bfloat16, float32 or float64; under autocast, read as products are.
        weight: (E, D); used in the dtype of ``x``, like the others.
        bias: (E,), or None.
        out_weight: (D', E).
        out_bias: (D',), or None.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (..., D') in the dtype of ``x``, or in autocast's.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    check_channels('x', x)
    x = like_products(x)
    check_weight(weight, x)
    inner = weight.shape[0]
    check_parameter('bias', bias, (inner,), x)
    hidden = MapLike((*x.shape[:-1], inner), x.dtype, x.device)
    check_weight(out_weight, hidden, 'out_weight')
    check_parameter('out_bias', out_bias, (out_weight.shape[0],), hidden)
    backend = choose_backend(backend, x)
    if BACKENDS[backend].gelu_forward is not None:
        return mlp_op(x, [weight, bias, out_weight, out_bias], backend)[0]
    with without_autocast(x):
        return project(F.gelu(project(x, weight, bias)), out_weight, out_bias)
