"""Launching the projection of tokens to their time steps and sides of the SSM."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from .expansion import expand
from .kernels.projection import projection_kernel
from .launch import launch
from .layout import dot_options

__all__ = ['Projected', 'Sizes', 'project']

BLOCK_TOKENS = 64
"""Of a program, which reads the whole weight: fewer would read more of it than of the map."""

WARPS = 8
"""Of a program: where the map is wide, programs are few, and these hide its waiting."""


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
        """Those of a call of :func:`project`."""
        channels, rank = dt_weight.shape
        sides = (weight.shape[0] - rank) // states
        return cls(x.numel() // channels if channels else 0, channels, rank, states, sides)

    @property
    def padded(self) -> int:
        """Numbers that a side takes of a token: N rounded up to a power of two."""
        return int(triton.next_power_of_2(self.states))

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


def project(
    x: Tensor, weight: Tensor, dt_weight: Tensor, dt_bias: Tensor, states: int
) -> Projected:
    """Project the tokens of a map.

    Args:
        x: (..., E), contiguous.
        weight: (R + sides * N, E).
        dt_weight: (E, R).
        dt_bias: (E,), float32.
        states: N.
    """
    sizes = Sizes.of(x, weight, dt_weight, states)
    low_rank, sides = sizes.allocate_unexpanded(x)
    if sizes.tokens:
        launch(
            projection_kernel,
            (triton.cdiv(sizes.tokens, BLOCK_TOKENS),),
            *(x, weight.contiguous(), low_rank, sides),
            sizes.tokens,
            sizes.channels,
            rank=sizes.rank,
            RANK=max(16, triton.next_power_of_2(sizes.rank)),
            states=states,
            STATES=sizes.padded,
            SIDES=sizes.sides,
            OUTPUTS=max(16, triton.next_power_of_2(sizes.sides * sizes.padded)),
            BLOCK_T=BLOCK_TOKENS,
            BLOCK_E=64 if sizes.channels > 32 else 32,
            **dot_options(x.dtype),
            num_warps=WARPS,
        )
    return sizes.projected(low_rank, expand(low_rank, dt_weight, dt_bias), sides)
