"""The public operator that gates a map and projects it: the end of a mixer."""

import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend
from .checks import check_map, check_same_map, check_weight
from .library import gated_linear_op
from .precision import without_autocast
from .reference import state_dtype

__all__ = ['gated_linear']


def gated_linear(x: Tensor, z: Tensor, weight: Tensor, backend: str = 'auto') -> Tensor:
    """``linear(x * SiLU(z), weight)``.

    A backend may fuse the gate's two steps and compute the gated map again in the backward pass
    instead of keeping it.

    Args:
        x: (B, H, W, E); float16, bfloat16, float32 or float64.
        z: Gate, like ``x``.
        weight: (D, E); used in the dtype of ``x``.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (B, H, W, D) in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    check_map('x', x)
    check_same_map('z', z, x)
    check_weight(weight, x)
    backend = choose_backend(backend, x)
    weight = weight.to(x.dtype)
    if BACKENDS[backend].gate_forward is not None:
        return gated_linear_op(x, z, weight, backend)
    with without_autocast(x):
        exact = state_dtype(x)
        return F.linear((x.to(exact) * F.silu(z.to(exact))).to(x.dtype), weight)
