"""Where the gradients of a convolution's map and gate go: anew, or to what is there."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .layout import check_into

__all__ = ['ConvGradients', 'Into', 'kernels_leave', 'leave_in', 'made_anew', 'make_gradients']

ConvGradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Gradients of ``x`` and ``gate``, and partial sums of those of the weight and the bias; the last
three may be missing."""


class Into(NamedTuple):
    """What gradients are left in, instead of tensors made anew.

    Attributes:
        x: Of the gradient's shape and dtype, its tokens equally far apart; None for one made anew.
        gate: Likewise.
        adds: Whether gradients are added to what is there, or take its place.
    """

    x: Tensor | None
    gate: Tensor | None
    adds: bool = True


def kernels_leave(into: Into, x: Tensor, gate: Tensor | None) -> bool:
    """Whether the kernels, which add to all that directions share and to nothing else, do this.

    Raises:
        ValueError: If a tensor is not like the gradient, or there is no gradient.
    """
    if gate is None and into.gate is not None:
        raise ValueError('without a gate there is no gradient of it to be left anywhere')
    for there, value in ((into.x, x), (into.gate, gate)):
        if value is not None:
            check_into(there, value.shape, value.dtype)
    if not into.adds:
        return True
    return (into.x is not None) == (x.dim() == 4) and (into.gate is None) == (gate is None)


def make_gradients(
    x: Tensor, gate: Tensor | None, into: Into | None
) -> tuple[Tensor, Tensor | None]:
    """What the kernels leave the gradients of ``x`` and ``gate`` in."""
    of_x, of_gate = (None, None) if into is None else into[:2]
    if of_x is None:
        of_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if of_gate is None and gate is not None:
        of_gate = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    return of_x, of_gate


def made_anew(
    gradients: Sequence[Tensor | None], places: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Of gradients those that were not left in a place: None for the others."""
    return [new if place is None else None for new, place in zip(gradients, places, strict=True)]


def leave_in(into: Into, gradients: ConvGradients) -> ConvGradients:
    """Add or copy the gradients of ``x`` and ``gate`` where they go, and return that instead."""
    left = [
        new if old is None or new is None else old.add_(new) if into.adds else old.copy_(new)
        for new, old in zip(gradients[:2], into[:2], strict=True)
    ]
    assert left[0] is not None
    return left[0], left[1], *gradients[2:]
