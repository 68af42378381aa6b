"""The results of the projection of tokens, and of its backward pass."""

from typing import NamedTuple

import torch
from torch import Tensor

from .maps import power_of_two

__all__ = ['COLUMNS', 'Projected', 'ProjectedGradient', 'Sizes']


class Projected(NamedTuple):
    """The projections of each token of a (..., E) map that a scan needs.

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
        tokens: Tokens of the whole map.
        channels: Channels, E.
        rank: Rank of the time step, R.
        states: States per channel, N.
        sides: Number of B and C that are projected, 1 or 2.
    """

    tokens: int
    channels: int
    rank: int
    states: int
    sides: int

    @classmethod
    def of(cls, x: Tensor, weight: Tensor, dt_weight: Tensor, states: int) -> 'Sizes':
        """The sizes of the projection of a map by its weights."""
        channels, rank = dt_weight.shape
        sides = (weight.shape[0] - rank) // states
        return cls(x.numel() // channels if channels else 0, channels, rank, states, sides)

    @property
    def padded(self) -> int:
        """Numbers of a side per token in memory: N rounded up to a power of two."""
        return power_of_two(self.states)

    def allocate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Allocate low_rank and delta of :class:`Projected`, and one tensor for all sides."""
        low_rank, sides = self.allocate_unexpanded(x)
        return low_rank, torch.empty_like(x), sides

    def allocate_unexpanded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Allocate low_rank of :class:`Projected`, and one tensor for all sides."""
        sides = x.new_empty((*x.shape[:-1], self.sides, self.padded), dtype=torch.float32)
        return x.new_empty((*x.shape[:-1], self.rank)), sides

    def projected(self, low_rank: Tensor, delta: Tensor, sides: Tensor) -> Projected:
        """View the tensors from :meth:`allocate` as :class:`Projected`, without padding."""
        each = [sides[..., i, : self.states] for i in range(self.sides)]
        return Projected(low_rank, delta, each)


COLUMNS = 16
"""Columns that tensor cores sum at once. :class:`ProjectedGradient` is padded to a multiple."""


class ProjectedGradient(NamedTuple):
    """The part of a map's gradient that comes from its projection, ``grad @ weight``.

    Attributes:
        grad: Gradient of the projection of each token, (tokens, R + sides * N), in the dtype of the
            map, padded with zeros to a multiple of :data:`COLUMNS`.
        weight: (R + sides * N, E), the weight of the projection.
    """

    grad: Tensor
    weight: Tensor
