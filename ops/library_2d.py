"""The 2D SSM as torch.library sees it, one node for all corners.

``mmv2m::ssm_2d``, and ``mmv2m::mixer_2d`` with the gate and the projection behind it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS
from .halves import Halves, unpack_groups
from .library import (
    gated_linear_gradients,
    gated_linear_op,
    like_inputs,
    present,
    projected_like,
    spread,
)
from .operator import Backward, differentiate, operator
from .precision import products_like
from .reference import state_dtype

__all__ = ['mixer_2d_inference_op', 'mixer_2d_op', 'ssm_2d_op']


def _maps_of_groups(
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    reduction: str,
    *options: Any,
) -> list[Tensor]:
    groups = list(unpack_groups(parameters, first, second))
    routes = () if reduction == 'sum' else (len(groups[0].second),)
    y = torch.empty((*routes, *x.shape), dtype=x.dtype, device=x.device)
    return [y, *(t for group in groups for t in _kept_like(x, group))]


def _kept_like(x: Tensor, group: Halves) -> Iterator[Tensor]:
    """What is kept of a group: the maps between its halves and, if so, both halves' projections."""
    tokens = (len(group.first), *x.shape[:-1])
    yield x.new_empty((*tokens, x.shape[-1]))
    if group.keeps_projections():
        for half in (group.rows, group.columns):
            dt_proj, A = half[3], half[5]
            yield x.new_empty((*tokens, dt_proj.shape[1]))
            yield x.new_empty((*tokens, A.shape[1]), dtype=state_dtype(x))


def _forward(backend: str) -> Callable[..., tuple[Tensor, ...]]:
    forward = BACKENDS[backend].ssm_2d_forward
    assert forward is not None
    return forward


def _backward(backend: str) -> Callable[..., tuple[Tensor | None, ...]]:
    backward = BACKENDS[backend].ssm_2d_backward
    assert backward is not None
    return backward


@operator('ssm_2d', _maps_of_groups)
def ssm_2d_op(
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    reduction: str,
    log_A: bool,
    backend: str,
) -> list[Tensor]:
    """:func:`mmv2m.ops.ssm_2d` on a backend that fuses it, and what is kept of each group."""
    run = _forward(backend)
    return list(run(x, gate, parameters, first, second, reduction, log_A, True))


def _like_gradients(grad_y: Tensor, kept: Sequence[Tensor], *args: Any) -> list[Tensor]:
    one, other, parameters, *_ = args
    return like_inputs(grad_y, one, other, *parameters)


@operator('ssm_2d_backward', _like_gradients)
def _ssm_2d_backward_op(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    reduction: str,
    log_A: bool,
    backend: str,
) -> list[Tensor]:
    run, options = _backward(backend), (first, second, reduction, log_A)
    return present(run(grad_y, kept, x, gate, parameters, *options, (None, None)))


def _mixed(
    xz: Tensor, weight: Tensor, parameters: Sequence[Tensor | None], *args: Any
) -> list[Tensor]:
    first, second, *options = args
    x = xz[..., : xz.shape[-1] // 2]
    maps = _maps_of_groups(x, None, parameters, first, second, 'sum', *options)
    return [projected_like(xz, weight), *maps]


@operator('mixer_2d', _mixed)
def mixer_2d_op(
    xz: Tensor,
    weight: Tensor,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    log_A: bool,
    backend: str,
) -> list[Tensor]:
    """:func:`mmv2m.ops.mixer_2d` on a backend that fuses it, the sum of scans, and what is kept."""
    x, z = xz.chunk(2, -1)
    y, *kept = _forward(backend)(x, z, parameters, first, second, 'sum', log_A, True)
    return [gated_linear_op.function(y, z, weight, backend), y, *kept]


@operator('mixer_2d_inference', projected_like)
def mixer_2d_inference_op(
    xz: Tensor,
    weight: Tensor,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    log_A: bool,
    backend: str,
) -> Tensor:
    """:func:`mmv2m.ops.mixer_2d` without gradients: the last scan leaves its sum gated."""
    x, z = xz.chunk(2, -1)
    (y,) = _forward(backend)(x, z, parameters, first, second, 'sum', log_A, False)
    with products_like(y):
        return F.linear(y, weight)


@operator('mixer_2d_backward', _like_gradients)
def _mixer_2d_backward_op(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    xz: Tensor,
    weight: Tensor,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    log_A: bool,
    backend: str,
) -> list[Tensor]:
    scanned, *kept = kept
    x, z = xz.chunk(2, -1)
    grad_xz = torch.empty(xz.shape, dtype=xz.dtype, device=xz.device)
    halves = grad_xz.chunk(2, -1)
    given = (grad_y, scanned, z, weight, backend)
    grad_scanned, _, grad_weight = gated_linear_gradients(*given, halves[1])
    run, options = _backward(backend), (first, second, 'sum', log_A)
    _, _, *others = run(grad_scanned, kept, x, z, parameters, *options, halves)
    return present((grad_xz, grad_weight, *others))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    (one, other, parameters, *options), kept = inputs, output[1:]
    ctx.save_for_backward(*kept, one, other, *parameters)
    ctx.kept, ctx.options = len(kept), options
    ctx.mark_non_differentiable(*kept)
    ctx.set_materialize_grads(False)  # there are none of what is kept


def _from_kept(backward_op: Any) -> Backward:
    """A gradient that takes the operator's inputs and what it has kept."""

    def backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        kept, inputs = saved[: ctx.kept], saved[ctx.kept :]
        no_options = [None] * len(ctx.options)
        if grad_y is None:
            return (*(None for _ in inputs), *no_options)
        one, other, *parameters = inputs
        grads = backward_op(grad_y, kept, one, other, parameters, *ctx.options)
        return (*spread(grads, inputs), *no_options)

    return backward


differentiate(ssm_2d_op, _keep, _from_kept(_ssm_2d_backward_op))
differentiate(mixer_2d_op, _keep, _from_kept(_mixer_2d_backward_op))
