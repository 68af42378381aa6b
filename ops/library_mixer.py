"""The mixer as torch.library sees it: both projections and the 2D SSM between them, as one node.

``mmv2m::mixer_2d``, and ``mmv2m::mixer_2d_inference`` where no gradient is asked for.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .backends import BACKENDS
from .library import differentiate_from_kept, like_inputs_not_kept, present, projected_like
from .library_2d import backward_of, forward_of, maps_of_groups
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

__all__ = ['mixer_2d_inference_op', 'mixer_2d_op']


def _mixed(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    *options: Any,
) -> list[Tensor]:
    mixed = projected_like(x, in_weight)
    inner, _ = _split(mixed, norm_weight)
    y, *kept = maps_of_groups(inner, None, parameters, first, second, 'sum')
    kept = kept if norm_weight is None else [torch.empty_like(y), *kept]
    casts = casts_like((in_weight, out_weight), x)
    return [projected_like(x, out_weight), mixed, y, *kept, *casts]


def _mixed_in_inference(x: Tensor, in_weight: Tensor, out_weight: Tensor, *args: Any) -> Tensor:
    return projected_like(x, out_weight)


def _split(mixed: Tensor, norm_weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The map and its gate; a mixer with a norm has none."""
    if norm_weight is not None:
        return mixed, None
    inner, gate = mixed.chunk(2, -1)
    return inner, gate


@operator('mixer_2d', _mixed)
def mixer_2d_op(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    eps: float,
    log_A: bool,
    backend: str,
) -> list[Tensor]:
    """:func:`mmv2m.ops.mixer_2d` on a backend that fuses it, and what is kept.

    That is, behind the output: what the first projection makes of x, the sum of scans, its norm if
    there is one, what is kept of each group, and casts of the weights.
    """
    (in_cast, out_cast), casts = cast_weights((in_weight, out_weight), x)
    mixed = project(x, in_cast)
    inner, gate = _split(mixed, norm_weight)
    y, *kept = forward_of(backend)(inner, gate, parameters, first, second, 'sum', log_A, True)
    chosen = BACKENDS[backend]
    if gate is None:
        assert chosen.norm_forward is not None
        ready = chosen.norm_forward(y, norm_weight, norm_bias, None, eps)
        kept.insert(0, ready)
    else:
        assert chosen.gate_forward is not None
        ready = chosen.gate_forward(y, gate)
    return [project(ready, out_cast), mixed, y, *kept, *casts]


@operator('mixer_2d_inference', _mixed_in_inference)
def mixer_2d_inference_op(
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    eps: float,
    log_A: bool,
    backend: str,
) -> Tensor:
    """:func:`mmv2m.ops.mixer_2d` without gradients: the last scan leaves its sum gated."""
    inner, gate = _split(project(x, in_weight), norm_weight)
    (y,) = forward_of(backend)(inner, gate, parameters, first, second, 'sum', log_A, False)
    if gate is None:
        norm_forward = BACKENDS[backend].norm_forward
        assert norm_forward is not None
        y = norm_forward(y, norm_weight, norm_bias, None, eps)
    return project(y, out_weight)


@operator('mixer_2d_backward', like_inputs_not_kept)
def _mixer_2d_backward_op(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    in_weight: Tensor,
    out_weight: Tensor,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    eps: float,
    log_A: bool,
    backend: str,
) -> list[Tensor]:
    (in_cast, out_cast), (mixed, y, *kept) = recall_weights((in_weight, out_weight), x, kept)
    inner, gate = _split(mixed, norm_weight)
    grad: Tensor | None = input_gradient(grad_y, out_cast)
    run, options = backward_of(backend), (first, second, 'sum', log_A)
    if gate is None:
        norm_backward, (ready, *kept) = BACKENDS[backend].norm_backward, kept
        assert norm_backward is not None
        grad_out = weight_gradient(grad_y, ready, out_weight.dtype)
        grad, *of_norm, _ = norm_backward(grad, y, norm_weight, norm_bias, None, eps)
        grad_mixed, _, *others = run(grad, kept, inner, None, parameters, *options)
        assert grad_mixed is not None
    else:
        gate_backward, of_norm = BACKENDS[backend].gate_backward, []
        assert gate_backward is not None
        grad_mixed = torch.empty_like(mixed)
        halves = grad_mixed.chunk(2, -1)
        grad, _, gated = gate_backward(grad, y, gate, halves[1], True)
        assert gated is not None
        grad_out = weight_gradient(grad_y, gated, out_weight.dtype)
        del gated  # or it would take memory while the scans' gradients are made, which take most
        _, _, *others = run(grad, kept, inner, gate, parameters, *options, halves)
    of_first = project_backward(grad_mixed, x, in_cast, in_weight.dtype)
    return present((*of_first, grad_out, *of_norm, *others))


differentiate_from_kept(mixer_2d_op, _mixer_2d_backward_op)
