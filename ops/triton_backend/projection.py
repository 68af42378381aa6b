"""Launching the projection of tokens to their time steps and sides of the SSM."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from .kernels.projection import projection_kernel
from .launch import launch
from .layout import dot_dtype

__all__ = ['Projected', 'project']

BLOCK_TOKENS = 64


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
    channels, rank = dt_weight.shape
    count = (weight.shape[0] - rank) // states
    padded = triton.next_power_of_2(states)
    low_rank = x.new_empty((*x.shape[:-1], rank))
    delta = torch.empty_like(x)
    sides = x.new_empty((*x.shape[:-1], count, padded), dtype=torch.float32)
    if x.numel():
        tokens = x.numel() // channels
        launch(
            projection_kernel,
            (triton.cdiv(tokens, BLOCK_TOKENS),),
            *(x, weight.contiguous(), dt_weight.contiguous(), dt_bias, low_rank, delta, sides),
            tokens,
            channels,
            rank=rank,
            RANK=max(16, triton.next_power_of_2(rank)),
            states=states,
            STATES=padded,
            SIDES=count,
            OUTPUTS=max(16, triton.next_power_of_2(count * padded)),
            BLOCK_T=BLOCK_TOKENS,
            BLOCK_E=64 if channels > 32 else 32,
            DOT_DTYPE=dot_dtype(x.dtype),
            PRECISION='ieee' if x.dtype == torch.float32 else 'tf32',
            num_warps=4,
        )
    return Projected(low_rank, delta, [sides[..., i, :states] for i in range(count)])
