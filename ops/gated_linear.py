"""A gate followed by a linear layer, as at the end of a mixer."""

import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend, has
from .checks import check_floating, check_map, check_same_map, check_weight
from .operator import differentiate_from_inputs, like_inputs, operator, present
from .precision import state_dtype, without_autocast
from .products import input_gradient, project, projected_like, weight_gradient

__all__ = ['gated_linear']


def gated_linear(x: Tensor, z: Tensor, weight: Tensor, backend: str = 'auto') -> Tensor:
    """Compute ``linear(x * SiLU(z), weight)``.

    A backend may fuse the SiLU and the product, and compute the gated map again in the backward
    pass instead of keeping it.

    Args:
        x: (B, H, W, E); float16, bfloat16, float32 or float64.
        z: Gate, like ``x``.
        weight: (D, E); it is cast to the dtype of ``x``.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (B, H, W, D) in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    check_map('x', x)
    check_floating('z', z)
    check_same_map('z', z, x)
    check_weight(weight, x)
    backend = choose_backend(backend, x)
    weight = weight.to(x.dtype)
    if has(backend, 'gate_forward'):
        return _gated_linear(x, z, weight, backend)
    with without_autocast(x):
        exact = state_dtype(x)
        return F.linear((x.to(exact) * F.silu(z.to(exact))).to(x.dtype), weight)


@operator('gated_linear', lambda x, z, weight, backend: projected_like(x, weight))
def _gated_linear(x: Tensor, z: Tensor, weight: Tensor, backend: str) -> Tensor:
    return project(BACKENDS[backend].gate_forward(x, z), weight)


@operator('gated_linear_backward', like_inputs)
def _gated_linear_backward(
    grad_y: Tensor, x: Tensor, z: Tensor, weight: Tensor, backend: str
) -> list[Tensor]:
    grad = input_gradient(grad_y, weight)
    *of_maps, gated = BACKENDS[backend].gate_backward(grad, x, z, None, True)
    return present((*of_maps, weight_gradient(grad_y, gated, weight.dtype)))


differentiate_from_inputs(_gated_linear, _gated_linear_backward)
