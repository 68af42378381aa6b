"""The projection of tokens in CUDA C++: arguments and launch of the kernel."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..gpu.maps import even_parts
from ..gpu.projections import Projected, Sizes
from ..runtime.hardware import hardware_of
from ..runtime.launch import Launch, address, launch, multiprocessors
from .arguments import NUMBERS, loads_at_once

__all__ = [
    'GROUP',
    'Projection',
    'choose_warps',
    'definitions',
    'project',
    'shared_bytes',
    'takes_projection',
]

GROUP, TILE, PART = 32, 16, 16
"""Channels, tokens and outputs that a warp works on together."""

AHEAD = 4
"""Most groups of channels that a thread loads at the same time."""

WARPS = {3: 24, 6: 16, 12: 12}
"""Warps of a block, by the number of parts up to which there are enough registers for them.

Each multiprocessor has one block.
"""

Layouts = Sequence[tuple[Tensor | None, int]]
"""Maps, each with the elements from one token to the next; None for a map that is missing."""


class Projection(ctypes.Structure):
    """The structure ``Projection`` in projection.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('weight', 'dt_weight', 'dt_bias')),
        *((name, ctypes.c_void_p) for name in ('low_rank', 'delta', 'sides')),
    ]


def project(
    x: Tensor,
    weight: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    states: int,
) -> Projected:
    """See :class:`mmv2m.ops.gpu.kernels.Kernels`.

    The kernel uses tensor cores, so maps have to be in half precision. Parameters have to be
    float32. The number of channels has to be a multiple of 8, and maps and weights have to begin at
    multiples of 16 bytes. R is rounded up to a multiple of 16, and so is the sum of all sides' N.
    Registers have room for 192 outputs in total. In shared memory, a channel takes 2 bytes per
    output, 2 more bytes for each of R, and 4 bytes. On an H100, there is room for up to 1408
    channels if R is 24 and N is 16.
    """
    weight, dt_weight, dt_bias = (p.contiguous() for p in (weight, dt_weight, dt_bias))
    sizes = Sizes.of(x, weight, dt_weight, states)
    parameters = (weight, dt_weight, dt_bias)
    if not takes_projection(sizes, [(x, sizes.channels)], parameters, WARPS):
        return NotImplemented
    results = sizes.allocate(x)
    if sizes.tokens:
        warps = choose_warps(sizes, WARPS)
        ahead = even_parts(-(-sizes.channels // GROUP), AHEAD)
        launch(
            Launch(
                'projection.cu',
                tuple(dict(definitions(sizes, x.dtype), AHEAD=ahead, WARPS=warps).items()),
                (min(-(-sizes.tokens // TILE), multiprocessors(x.device)), 1),
                32 * warps,
                shared_bytes(sizes),
                (
                    ctypes.c_void_p(address(x)),
                    ctypes.c_int(sizes.tokens),
                    Projection(*map(address, (*parameters, *results))),
                ),
            ),
            x.device,
        )
    return sizes.projected(*results)


def takes_projection(
    sizes: Sizes,
    maps: Layouts,
    parameters: Sequence[Tensor],
    warps: dict[int, int],
    more_shared_bytes: int = 0,
) -> bool:
    """Whether the kernel supports a projection; see :func:`project`.

    Args:
        sizes: Sizes of the projection.
        maps: Maps that are read.
        parameters: The weight, contiguous, and the other parameters.
        warps: Warps of a block, by the number of parts up to which there are enough registers.
        more_shared_bytes: Bytes that a block needs in addition to :func:`shared_bytes`.
    """
    x = maps[0][0]
    return (
        x is not None
        and x.dtype in (torch.bfloat16, torch.float16)
        and all(p.dtype == torch.float32 for p in parameters)
        and sizes.channels % 8 == 0
        and loads_at_once(8, maps)
        and loads_at_once(4, [(parameters[0], sizes.channels)])
        and sum(_parts(sizes)) <= max(warps)
        and shared_bytes(sizes) + more_shared_bytes <= hardware_of(x.device).shared_bytes_of_block
        and sizes.tokens < 2**30
    )


def definitions(sizes: Sizes, dtype: torch.dtype) -> dict[str, Any]:
    """Names and values for which projection.cuh is compiled, except for the warps of a block."""
    return dict(
        NUMBER=NUMBERS[dtype],
        CHANNELS=sizes.channels,
        RANK=sizes.rank,
        STATES=sizes.states,
        PADDED=sizes.padded,
        SIDES=sizes.sides,
    )


def _parts(sizes: Sizes) -> tuple[int, int]:
    """The number of parts of the low rank, and of the sides."""
    return -(-sizes.rank // PART), -(-sizes.sides * sizes.padded // PART)


def choose_warps(sizes: Sizes, warps: dict[int, int]) -> int:
    """Choose the warps for which there are enough registers."""
    return next(count for parts, count in warps.items() if sum(_parts(sizes)) <= parts)


def shared_bytes(sizes: Sizes) -> int:
    """Bytes of ``Weights`` in projection.cuh."""
    of_rank, of_sides = _parts(sizes)
    words = PART * (of_rank + of_sides + of_rank)
    return -(-sizes.channels // GROUP) * GROUP * (2 * words + 4)
