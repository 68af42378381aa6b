"""The MLP as torch.library sees it, one node: ``mmv2m::mlp``."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .backends import BACKENDS
from .library import differentiate_from_kept, like_inputs, present, projected_like
from .operator import operator
from .products import input_gradient, project, project_backward, weight_gradient

__all__ = ['mlp_op']


def _mlp_like(x: Tensor, parameters: Sequence[Tensor | None], backend: str) -> list[Tensor]:
    weight, _, out_weight, _ = parameters
    assert weight is not None and out_weight is not None
    return [projected_like(x, out_weight), projected_like(x, weight)]


@operator('mlp', _mlp_like)
def mlp_op(x: Tensor, parameters: Sequence[Tensor | None], backend: str) -> list[Tensor]:
    """:func:`mmv2m.ops.mlp` on a backend that recomputes GELU, and the hidden layer.

    ``parameters`` are ``weight, bias, out_weight, out_bias``. The bias of the hidden layer is left
    to GELU: a product that adds it would have its gradient found in a pass of its own.
    """
    weight, bias, out_weight, out_bias = parameters
    gelu = BACKENDS[backend].gelu_forward
    assert gelu is not None and weight is not None and out_weight is not None
    hidden = project(x, weight)
    return [project(gelu(hidden, bias), out_weight, out_bias), hidden]


def _like_gradients(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    parameters: Sequence[Tensor | None],
    backend: str,
) -> list[Tensor]:
    return like_inputs(grad_y, x, *parameters)


@operator('mlp_backward', _like_gradients)
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
    flat, hidden, rows = (torch.atleast_2d(t).flatten(0, -2) for t in (grad_y, kept[0], x))
    grad = input_gradient(flat, out_weight)  # of GELU; the next line makes it the hidden layer's
    activated, *sums = gelu_backward(grad, hidden, bias, None if out_bias is None else flat)
    grad_x, grad_weight = project_backward(grad, rows, weight)
    grad_out = weight_gradient(flat, activated, out_weight.dtype)
    of_bias, of_out_bias = (
        None if total is None or p is None else total.to(p.dtype)
        for p, total in zip((bias, out_bias), sums, strict=True)
    )
    return present((grad_x.view(x.shape), grad_weight, of_bias, grad_out, of_out_bias))


differentiate_from_kept(mlp_op, _mlp_backward_op)
