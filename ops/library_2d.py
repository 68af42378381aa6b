"""The 2D SSM as torch.library sees it: ``mmv2m::ssm_2d``, one node for all corners."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from .backends import BACKENDS
from .halves import Halves, unpack_groups
from .library import like_inputs, present, spread
from .operator import differentiate, operator
from .reference import state_dtype

__all__ = ['ssm_2d_op']


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
    forward = BACKENDS[backend].ssm_forward
    assert forward is not None
    y, kept = None, []
    for group in unpack_groups(parameters, first, second):
        keeps = group.keeps_projections()
        between, *ours = forward(
            *((x, None, *group.rows), group.first, 'input', 'none', log_A, None, keeps)
        )
        total, *theirs = forward(
            *((between, gate, *group.columns), group.second, 'output', reduction, log_A, y, keeps)
        )
        y = total if y is None else y
        kept += [between, *ours, *theirs]
    assert y is not None
    return [y, *kept]


def _like_gradients(grad_y: Tensor, kept: Sequence[Tensor], *args: Any) -> list[Tensor]:
    x, gate, parameters, *_ = args
    return like_inputs(grad_y, x, gate, *parameters)


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
    backward = BACKENDS[backend].ssm_backward
    assert backward is not None
    grad_x, grad_gate, others = None, None, []
    remaining = iter(kept)
    for group in unpack_groups(parameters, first, second):
        between = next(remaining)
        ours, theirs = (
            tuple(islice(remaining, 2 if group.keeps_projections() else 0)) for _ in range(2)
        )
        grad_between, of_gate, *grad_columns = backward(
            *(grad_y, (between, gate, *group.columns), group.second, 'output', reduction, log_A),
            *(theirs, None if grad_gate is None else (None, grad_gate)),
        )
        of_x, _, *grad_rows = backward(
            *(grad_between, (x, None, *group.rows), group.first, 'input', 'none', log_A),
            *(ours, None if grad_x is None else (grad_x, None)),
        )
        # A later group has added its own to these.
        grad_x, grad_gate = (of_x, of_gate) if grad_x is None else (grad_x, grad_gate)
        others += [*grad_rows, *grad_columns]
    return present((grad_x, grad_gate, *others))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    (x, gate, parameters, *options), kept = inputs, output[1:]
    ctx.save_for_backward(*kept, x, gate, *parameters)
    ctx.kept, ctx.options = len(kept), options
    ctx.mark_non_differentiable(*kept)
    ctx.set_materialize_grads(False)  # there are none of what is kept


def _backward(ctx: Any, grad_y: Tensor | None, *_: None) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    kept, (x, gate, *parameters) = saved[: ctx.kept], saved[ctx.kept :]
    inputs, no_options = (x, gate, *parameters), [None] * len(ctx.options)
    if grad_y is None:
        return (*(None for _ in inputs), *no_options)
    grads = _ssm_2d_backward_op(grad_y, kept, x, gate, parameters, *ctx.options)
    return (*spread(grads, inputs), *no_options)


differentiate(ssm_2d_op, _keep, _backward)
