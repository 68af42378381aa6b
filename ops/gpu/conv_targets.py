"""Where the gradients of a convolution's map and gate go."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .maps import check_target

__all__ = ['NEW', 'ConvGradients', 'ConvTargets', 'new_ones']

ConvGradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Gradients of ``x`` and ``gate``, and partial sums of those of the weight and the bias; the last
three may be missing."""


class ConvTargets(NamedTuple):
    """Tensors that gradients are written or added to, instead of new ones.

    Attributes:
        x: Of the gradient's shape and dtype, its tokens equally far apart; None for a new tensor.
        gate: The same for the gradient of the gate.
        adds: Whether gradients are added to what is there, or take its place.
    """

    x: Tensor | None = None
    gate: Tensor | None = None
    adds: bool = False

    def fit_kernels(self, x: Tensor, gate: Tensor | None) -> bool:
        """Whether the kernels do this: they add to all that directions share, or to nothing.

        Raises:
            ValueError: If a tensor is not like the gradient, or there is no gradient.
        """
        if gate is None and self.gate is not None:
            raise ValueError('without a gate there is no gradient of it to be left anywhere')
        for target, value in ((self.x, x), (self.gate, gate)):
            if value is not None:
                check_target(target, value.shape, value.dtype)
        if not self.adds:
            return True
        return (self.x is not None) == (x.dim() == 4) and (self.gate is None) == (gate is None)

    def allocate(self, x: Tensor, gate: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the kernels write the gradients of ``x`` and ``gate`` to."""
        of_x, of_gate = self.x, self.gate
        if of_x is None:
            of_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        if of_gate is None and gate is not None:
            of_gate = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
        return of_x, of_gate

    def receive(self, gradients: ConvGradients) -> ConvGradients:
        """Add or copy new gradients of ``x`` and ``gate`` to where they go; returns all."""
        left = [
            new if old is None or new is None else old.add_(new) if self.adds else old.copy_(new)
            for new, old in zip(gradients[:2], self[:2], strict=True)
        ]
        assert left[0] is not None
        return left[0], left[1], *gradients[2:]


NEW = ConvTargets()
"""New tensors for all gradients."""


def new_ones(
    gradients: Sequence[Tensor | None], targets: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Of gradients those that are new tensors: None for those that were left in a target."""
    return [new if old is None else None for new, old in zip(gradients, targets, strict=True)]
