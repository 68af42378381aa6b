"""What the projection of tokens makes of them, and what its backward pass hands on."""

from typing import NamedTuple

import torch
from torch import Tensor

from .maps import power_of_two

__all__ = ['COLUMNS', 'Projected', 'ProjectedGradient', 'Sizes']


class Projected(NamedTuple):
    """What a scan needs of each token of a (..., E) map.

    Attributes:
        low_rank: Time steps before their expansion, (..., R), in the map's dtype.
        delta: Time steps behind softplus, (..., E), in the map's dtype.
        sides: One or two of B and C, each (..., N), float32.
    """

    low_rank: Tensor
    delta: Tensor
    sides: list[Tensor]


class Sizes(NamedTuple):
    """The sizes of a projection.

    Attributes:
        tokens: Of the whole map.
        channels: E.
        rank: R.
        states: N.
        sides: One or two.
    """

    tokens: int
    channels: int
    rank: int
    states: int
    sides: int

    @classmethod
    def of(cls, x: Tensor, weight: Tensor, dt_weight: Tensor, states: int) -> 'Sizes':
        """Those of a projection."""
        channels, rank = dt_weight.shape
        sides = (weight.shape[0] - rank) // states
        return cls(x.numel() // channels if channels else 0, channels, rank, states, sides)

    @property
    def padded(self) -> int:
        """Numbers that a side takes of a token: N rounded up to a power of two."""
        return power_of_two(self.states)

    def allocate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Memory for low_rank and delta as in :class:`Projected`, and both sides' in one tensor."""
        low_rank, sides = self.allocate_unexpanded(x)
        return low_rank, torch.empty_like(x), sides

    def allocate_unexpanded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same without delta."""
        sides = x.new_empty((*x.shape[:-1], self.sides, self.padded), dtype=torch.float32)
        return x.new_empty((*x.shape[:-1], self.rank)), sides

    def projected(self, low_rank: Tensor, delta: Tensor, sides: Tensor) -> Projected:
        """What is in that memory, without padding."""
        each = [sides[..., i, : self.states] for i in range(self.sides)]
        return Projected(low_rank, delta, each)


COLUMNS = 16
"""What tensor cores sum up at once: to multiples of it :class:`ProjectedGradient` is padded."""


class ProjectedGradient(NamedTuple):
    """What the gradient of a map gets from its projection: ``grad @ weight``, to be added.

    Attributes:
        grad: Of what the projection makes of each token, (tokens, R + sides * N), and zeros up to a
            multiple of :data:`COLUMNS`; like the map.
        weight: (R + sides * N, E).
    """

    grad: Tensor
    weight: Tensor
