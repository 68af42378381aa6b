"""The launch of the projection of tokens to their time steps, and to B and C (the sides)."""

import triton
from torch import Tensor

from ..gpu.projections import Projected, Sizes
from .expansion import expand
from .kernels.projection import projection_kernel
from .launch import launch
from .walks import dot_options

__all__ = ['project']

BLOCK_TOKENS = 64
"""Tokens of a program. With fewer, it would read more of the weight than of the map."""

WARPS = 8
"""Warps of a program, which hide its waiting, since wide maps have few programs."""


def project(
    x: Tensor, weight: Tensor, dt_weight: Tensor, dt_bias: Tensor, states: int
) -> Projected:
    """Project the tokens of a map.

    Args:
        x: (..., E), contiguous.
        weight: (R + sides * N, E).
        dt_weight: (E, R).
        dt_bias: (E,), float32.
        states: States per channel, N.
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
