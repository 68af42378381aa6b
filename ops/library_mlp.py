"""The MLP as torch.library sees it, one node: ``mmv2m::mlp``."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .backends import BACKENDS
from .library import differentiate_from_kept, like_inputs_not_kept, present, projected_like
from .operator import operator
from .products import (
    cast_weights,
    casts_like,
    input_gradient,
    project,
    project_backward,
    recall_weights,
    weight_gradient,
)

__all__ = ['mlp_op']


def _mlp_like(x: Tensor, parameters: Sequence[Tensor | None], backend: str) -> list[Tensor]:
    weight, _, out_weight, _ = parameters
    assert weight is not None and out_weight is not None
    casts = casts_like((weight, out_weight), x)
    return [projected_like(x, out_weight), projected_like(x, weight), *casts]


@operator('mlp', _mlp_like)
def mlp_op(x: Tensor, parameters: Sequence[Tensor | None], backend: str) -> list[Tensor]:
    """:func:`mmv2m.ops.mlp` on a backend that recomputes GELU; and what is kept.

    That is the hidden layer, and casts of the weights. ``parameters`` are ``weight, bias,
    out_weight, out_bias``. The bias of the hidden layer is left to GELU: a product that adds it
    would have its gradient found in a pass of its own.
    """
    weight, bias, out_weight, out_bias = parameters
    gelu = BACKENDS[backend].gelu_forward
    assert gelu is not None and weight is not None and out_weight is not None
    (cast, out_cast), casts = cast_weights((weight, out_weight), x)
    hidden = project(x, cast)
    return [project(gelu(hidden, bias), out_cast, out_bias), hidden, *casts]


@operator('mlp_backward', like_inputs_not_kept)
def _mlp_backward_op(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    parameters: Sequence[Tensor | None],
    backend: str,
) -> list[Tensor]:
    weight, bias, out_weight, out_bias = parameters
    gelu_backward = BACKENDS[backend].gelu_backward
    assert gelu_backward is not None and weight is not None and out_weight is not None
    (cast, out_cast), (hidden,) = recall_weights((weight, out_weight), x, kept)
    flat, hidden, rows = (torch.atleast_2d(t).flatten(0, -2) for t in (grad_y, hidden, x))
    grad = input_gradient(flat, out_cast)  # of GELU; the next line makes it the hidden layer's
    activated, *sums = gelu_backward(grad, hidden, bias, None if out_bias is None else flat)
    grad_x, grad_weight = project_backward(grad, rows, cast, weight.dtype)
    grad_out = weight_gradient(flat, activated, out_weight.dtype)
    of_bias, of_out_bias = (
        None if total is None or p is None else total.to(p.dtype)
        for p, total in zip((bias, out_bias), sums, strict=True)
    )
    return present((grad_x.view(x.shape), grad_weight, of_bias, grad_out, of_out_bias))


differentiate_from_kept(mlp_op, _mlp_backward_op)
