"""The launch of the kernel that expands time steps from their low rank."""

import math

import triton
from torch import Tensor

from .kernels.expansion import expand_kernel
from .launch import launch
from .walks import dot_options

__all__ = ['expand']

BLOCK = 64 * 64
"""Tokens times channels of a program."""

LOW, HIGH = 16, 64
"""Numbers to which lower ranks are rounded up, so that stages share kernels."""

BLOCK_CHANNELS = {LOW: 32, HIGH: 64}
"""Channels of a program, by the padded rank.

If the rank is low, there are few channels, and a large last block would be half empty.
"""


def expand(low_rank: Tensor, dt_weight: Tensor, dt_bias: Tensor) -> Tensor:
    """Compute the time steps of all channels, ``softplus(low_rank @ dt_weight.T + dt_bias)``.

    Factors are in the precision of ``low_rank``, and products are summed in float32.

    Args:
        low_rank: (..., R).
        dt_weight: (E, R), float32.
        dt_bias: (E,), float32.

    Returns:
        (..., E) in the dtype of ``low_rank``, contiguous.
    """
    channels, rank = dt_weight.shape
    delta = low_rank.new_empty((*low_rank.shape[:-1], channels))
    if delta.numel():
        tokens = delta.numel() // channels
        padded = LOW if rank <= LOW else max(HIGH, triton.next_power_of_2(rank))
        columns = BLOCK_CHANNELS[min(padded, HIGH)]
        blocks, rows = triton.cdiv(channels, columns), BLOCK // columns
        launch(
            expand_kernel,
            (triton.cdiv(tokens, rows) * blocks,),
            *(low_rank.contiguous(), dt_weight.contiguous(), dt_bias.contiguous(), delta),
            *(tokens, channels, blocks, rank),
            ALIGNED=math.gcd(rank, 2 if padded == LOW else 8),
            RANK=padded,
            BLOCK_T=rows,
            BLOCK_E=columns,
            **dot_options(low_rank.dtype),
            num_warps=4,
        )
    return delta
