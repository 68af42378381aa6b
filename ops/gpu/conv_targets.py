"""The tensors to which the gradients of a convolution's map and gate are written."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .maps import check_target

__all__ = ['NEW', 'ConvGradients', 'ConvTargets', 'new_ones']

ConvGradients = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""Gradients of ``x`` and ``gate``, and partial sums of the weight's and the bias's gradients.

The last three may be None.
"""


class ConvTargets(NamedTuple):
    """Tensors to which gradients are written or added, instead of new tensors.

    Attributes:
        x: A tensor of the gradient's shape and dtype, with tokens at equal distances. None for a
            new tensor.
        gate: The same for the gradient of the gate.
        adds: Whether gradients are added to the tensors, instead of overwriting them.
    """

    x: Tensor | None = None
    gate: Tensor | None = None
    adds: bool = False

    def fit_kernels(self, x: Tensor, gate: Tensor | None) -> bool:
        """Whether the kernels support these targets.

        They add to the gradients of all tensors that the directions share, or to none.

        Raises:
            ValueError: If a tensor is not like the gradient, or there is no gradient.
        """
        if gate is None and self.gate is not None:
            raise ValueError('there is a target for the gradient of a gate, but no gate')
        for target, value in ((self.x, x), (self.gate, gate)):
            if value is not None:
                check_target(target, value.shape, value.dtype)
        if not self.adds:
            return True
        return (self.x is not None) == (x.dim() == 4) and (self.gate is None) == (gate is None)

    def allocate(self, x: Tensor, gate: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the tensors for the gradients of ``x`` and ``gate``, new ones if need be."""
        of_x, of_gate = self.x, self.gate
        if of_x is None:
            of_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        if of_gate is None and gate is not None:
            of_gate = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
        return of_x, of_gate

    def receive(self, gradients: ConvGradients) -> ConvGradients:
        """Add or copy new gradients of ``x`` and ``gate`` to the targets, and return all."""
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
    """Replace gradients that have a target by None."""
    return [new if old is None else None for new, old in zip(gradients, targets, strict=True)]
