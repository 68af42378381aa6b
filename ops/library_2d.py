"""The 2D SSM as torch.library sees it, one node for all corners.

``mmv2m::ssm_2d``, and ``mmv2m::mixer_2d`` with the gate and the projection behind it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends import BACKENDS
from .halves import Halves, unpack_groups
from .library import gated_linear_gradients, gated_linear_op, like_inputs, present, spread
from .operator import Backward, differentiate, operator
from .precision import products_like
from .reference import state_dtype

__all__ = ['mixer_2d_inference_op', 'mixer_2d_op', 'ssm_2d_op']

Options = tuple[str, bool, str]
"""Reduction, ``log_A`` and backend."""


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


def _scan_groups(
    x: Tensor,
    gate: Tensor | None,
    groups: Sequence[Halves],
    options: Options,
    trains: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    """The routes' outputs, and what is kept of each group.

    If not ``trains``, nothing is, and the sum over all goes through the gate too.
    """
    reduction, log_A, backend = options
    forward = BACKENDS[backend].ssm_forward
    assert forward is not None
    y, kept = None, []
    for group in groups:
        keeps, last = trains and group.keeps_projections(), group is groups[-1]
        between, *ours = forward(
            *((x, None, *group.rows), group.first, 'input', 'none', log_A, None, keeps)
        )
        total, *theirs = forward(
            *((between, gate, *group.columns), group.second, 'output', reduction, log_A, y, keeps),
            *([True] if last and not trains else []),
        )
        y = total if y is None else y
        kept += [between, *ours, *theirs] if trains else []
    assert y is not None
    return y, kept


def _differentiate_groups(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    gate: Tensor | None,
    groups: Iterable[Halves],
    options: Options,
    into: Sequence[Tensor | None] = (None, None),
) -> list[Tensor | None]:
    """Gradients of ``x``, ``gate`` and the parameters.

    ``into`` is what the first takes the place of, and what the second is added to.
    """
    reduction, log_A, backend = options
    backward = BACKENDS[backend].ssm_backward
    assert backward is not None
    (grad_x, grad_gate), others = into, []
    remaining, adds = iter(kept), False
    for group in groups:
        between = next(remaining)
        ours, theirs = (
            tuple(islice(remaining, 2 if group.keeps_projections() else 0)) for _ in range(2)
        )
        grad_between, of_gate, *grad_columns = backward(
            *(grad_y, (between, gate, *group.columns), group.second, 'output', reduction, log_A),
            *(theirs, None if grad_gate is None else (None, grad_gate, True)),
        )
        of_x, _, *grad_rows = backward(
            *(grad_between, (x, None, *group.rows), group.first, 'input', 'none', log_A),
            *(ours, None if grad_x is None else (grad_x, None, adds)),
        )
        grad_x = of_x if grad_x is None else grad_x
        grad_gate = of_gate if grad_gate is None else grad_gate
        adds = True
        others += [*grad_rows, *grad_columns]
    return [grad_x, grad_gate, *others]


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
    groups = list(unpack_groups(parameters, first, second))
    y, kept = _scan_groups(x, gate, groups, (reduction, log_A, backend))
    return [y, *kept]


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
    groups = unpack_groups(parameters, first, second)
    options = (reduction, log_A, backend)
    return present(_differentiate_groups(grad_y, kept, x, gate, groups, options))


def _mixed(
    xz: Tensor, weight: Tensor, parameters: Sequence[Tensor | None], *args: Any
) -> list[Tensor]:
    first, second, *options = args
    x = xz[..., : xz.shape[-1] // 2]
    maps = _maps_of_groups(x, None, parameters, first, second, 'sum', *options)
    return [x.new_empty((*x.shape[:-1], weight.shape[0])), *maps]


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
    groups = list(unpack_groups(parameters, first, second))
    y, kept = _scan_groups(x, z, groups, ('sum', log_A, backend))
    return [gated_linear_op.function(y, z, weight, backend), y, *kept]


def _projected(xz: Tensor, weight: Tensor, *args: Any) -> Tensor:
    return xz.new_empty((*xz.shape[:-1], weight.shape[0]))


@operator('mixer_2d_inference', _projected)
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
    groups = list(unpack_groups(parameters, first, second))
    y, _ = _scan_groups(x, z, groups, ('sum', log_A, backend), trains=False)
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
    groups = unpack_groups(parameters, first, second)
    options = ('sum', log_A, backend)
    _, _, *others = _differentiate_groups(grad_scanned, kept, x, z, groups, options, halves)
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
