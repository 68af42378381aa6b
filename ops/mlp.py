"""The MLP that follows a mixer."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS, choose_backend, has
from .checks import MapLike, check_channels, check_parameter, check_weight
from .operator import differentiate_from_kept, like_inputs_not_kept, operator, present
from .precision import like_products, without_autocast
from .products import (
    cast_weights,
    casts_like,
    input_gradient,
    project,
    project_backward,
    projected_like,
    recall_weights,
    weight_gradient,
)

__all__ = ['mlp']


def mlp(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out_weight: Tensor,
    out_bias: Tensor | None,
    backend: str = 'auto',
) -> Tensor:
    """Compute ``linear(GELU(linear(x, weight, bias)), out_weight, out_bias)``.

    The GELU is exact, ``x * (1 + erf(x / sqrt(2))) / 2``.

    A backend may compute the GELU again in the backward pass, which halves the memory that is kept
    of the hidden layer. It may also compute the biases' gradients while it reads the maps for other
    gradients.

    Args:
        x: (..., D); float16, bfloat16, float32 or float64. Under autocast, it is read in autocast's
            dtype.
        weight: (E, D). All parameters are cast to the dtype of ``x``.
        bias: (E,), or None.
        out_weight: (D', E).
        out_bias: (D',), or None.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (..., D') in the dtype of ``x``, or in autocast's dtype.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run. The message says why.
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
    if has(backend, 'gelu_forward'):
        return _mlp(x, [weight, bias, out_weight, out_bias], backend)[0]
    with without_autocast(x):
        return project(F.gelu(project(x, weight, bias)), out_weight, out_bias)


def _mlp_like(x: Tensor, parameters: Sequence[Tensor | None], backend: str) -> list[Tensor]:
    weight, _, out_weight, _ = parameters
    assert weight is not None and out_weight is not None
    casts = casts_like((weight, out_weight), x)
    return [projected_like(x, out_weight), projected_like(x, weight), *casts]


@operator('mlp', _mlp_like)
def _mlp(x: Tensor, parameters: Sequence[Tensor | None], backend: str) -> list[Tensor]:
    """Compute the result, the hidden layer, and casts of the weights.

    The latter are kept for the backward pass. The bias of the hidden layer is left to the GELU,
    because a product that adds it would need a pass of its own for its gradient.
    """
    weight, bias, out_weight, out_bias = parameters
    gelu = BACKENDS[backend].gelu_forward
    assert weight is not None and out_weight is not None
    (cast, out_cast), casts = cast_weights((weight, out_weight), x)
    hidden = project(x, cast)
    return [project(gelu(hidden, bias), out_cast, out_bias), hidden, *casts]


@operator('mlp_backward', like_inputs_not_kept)
def _mlp_backward(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    parameters: Sequence[Tensor | None],
    backend: str,
) -> list[Tensor]:
    weight, bias, out_weight, out_bias = parameters
    gelu_backward = BACKENDS[backend].gelu_backward
    assert weight is not None and out_weight is not None
    (cast, out_cast), (hidden,) = recall_weights((weight, out_weight), x, kept)
    flat, hidden, rows = (torch.atleast_2d(t).flatten(0, -2) for t in (grad_y, hidden, x))
    # The GELU's backward pass turns this gradient into the hidden layer's in place.
    grad = input_gradient(flat, out_cast)
    activated, *sums = gelu_backward(grad, hidden, bias, None if out_bias is None else flat)
    grad_x, grad_weight = project_backward(grad, rows, cast, weight.dtype)
    grad_out = weight_gradient(flat, activated, out_weight.dtype)
    of_bias, of_out_bias = (
        None if total is None or p is None else total.to(p.dtype)
        for p, total in zip((bias, out_bias), sums, strict=True)
    )
    return present((grad_x.view(x.shape), grad_weight, of_bias, grad_out, of_out_bias))


differentiate_from_kept(_mlp, _mlp_backward)
