"""The 2D SSM as torch.library sees it, one node for all corners: ``mmv2m::ssm_2d``."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .backends import BACKENDS
from .halves import Halves, unpack_groups
from .library import differentiate_from_kept, like_inputs_not_kept, present
from .operator import operator
from .reference import state_dtype

__all__ = ['backward_of', 'forward_of', 'maps_of_groups', 'ssm_2d_op']


def maps_of_groups(
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    reduction: str,
    *options: Any,
) -> list[Tensor]:
    """The fake of :func:`ssm_2d_op`: the output, and what is kept of each group, empty."""
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


def forward_of(backend: str) -> Callable[..., tuple[Tensor, ...]]:
    """How a backend that fuses the 2D SSM runs it."""
    forward = BACKENDS[backend].ssm_2d_forward
    assert forward is not None
    return forward


def backward_of(backend: str) -> Callable[..., tuple[Tensor | None, ...]]:
    """How it finds the gradients."""
    backward = BACKENDS[backend].ssm_2d_backward
    assert backward is not None
    return backward


@operator('ssm_2d', maps_of_groups)
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
    run = forward_of(backend)
    return list(run(x, gate, parameters, first, second, reduction, log_A, True))


@operator('ssm_2d_backward', like_inputs_not_kept)
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
    run, options = backward_of(backend), (first, second, reduction, log_A)
    return present(run(grad_y, kept, x, gate, parameters, *options, (None, None)))


differentiate_from_kept(ssm_2d_op, _ssm_2d_backward_op)
