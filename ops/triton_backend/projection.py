"""Launching the projection of tokens to their time steps and sides of the SSM."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from .kernels.projection import projection_kernel
from .layout import dot_dtype

__all__ = ['Sections', 'project']

BLOCK_TOKENS = 64


class Sections(NamedTuple):
    """How the projection of a token is laid out: time step, then one or two of B and C.

    Attributes:
        rank: Numbers of the time step, R.
        states: Numbers of a projection, N.
        sides: How many of B and C there are.
    """

    rank: int
    states: int
    sides: int

    @property
    def padded_rank(self) -> int:
        """Where the first projection begins: a multiple of 16 bytes."""
        return max(4, triton.next_power_of_2(self.rank))

    @property
    def padded_states(self) -> int:
        """From one projection to the next."""
        return triton.next_power_of_2(self.states)

    @property
    def width(self) -> int:
        """Numbers a token, padding included."""
        return -(-(self.padded_rank + self.sides * self.padded_states) // 16) * 16

    def split(self, projected: Tensor) -> list[Tensor]:
        """The time step and the projections of a (..., width) tensor, without the padding."""
        starts = [self.padded_rank + side * self.padded_states for side in range(self.sides)]
        parts = [projected[..., start : start + self.states] for start in starts]
        return [projected[..., : self.rank], *parts]


def project(x: Tensor, weight: Tensor, sections: Sections) -> Tensor:
    """Project the tokens of a map.

    Args:
        x: (..., E), contiguous.
        weight: (R + sides * N, E).
        sections: How the result is laid out.

    Returns:
        (..., sections.width) in float32.
    """
    channels = x.shape[-1]
    projected = torch.empty((*x.shape[:-1], sections.width), dtype=torch.float32, device=x.device)
    if not x.numel():
        return projected.zero_()
    tokens = x.numel() // channels
    projection_kernel[(triton.cdiv(tokens, BLOCK_TOKENS),)](
        x,
        weight.contiguous(),
        projected,
        tokens,
        channels,
        sections.width,
        rank=sections.rank,
        RANK=sections.padded_rank,
        states=sections.states,
        STATES=sections.padded_states,
        SIDES=sections.sides,
        OUTPUTS=triton.next_power_of_2(sections.width),
        BLOCK_T=BLOCK_TOKENS,
        BLOCK_E=64 if channels > 32 else 32,
        DOT_DTYPE=dot_dtype(x.dtype),
        PRECISION='ieee' if x.dtype == torch.float32 else 'tf32',
        num_warps=4,
    )
    return projected
