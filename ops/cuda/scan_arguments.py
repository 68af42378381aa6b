"""Arguments of the kernels for both passes of the scan."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..gpu.scan_inputs import ScanInputs
from ..runtime.launch import address
from .arguments import NUMBERS, copied_at_once, loads_at_once, within_reach

__all__ = [
    'Gradients',
    'Scan',
    'Tile',
    'contiguous_maps',
    'forward_tile',
    'maps_at_once',
    'pack_scan',
    'scan_definitions',
    'side_bytes',
    'staged_bytes',
    'takes_scan',
    'whole_states',
]

SOFTPLUS = dict(none=0, apply=1, applied=2)
MOST_STATES = 32


class Scan(ctypes.Structure):
    """The structure ``Scan`` in scan.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('x', 'delta', 'delta_bias', 'A')),
        *((name, ctypes.c_void_p) for name in ('B', 'C', 'D', 'start', 'z')),
        *((name, ctypes.c_int) for name in ('B_token', 'C_token', 'z_token')),
    ]


class Gradients(ctypes.Structure):
    """The structure ``Gradients`` in scan.cuh."""

    _fields_ = [(name, ctypes.c_void_p) for name in ('x', 'delta', 'z', 'A', 'B', 'C', 'D', 'bias')]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor | None]) -> 'Gradients':
        """Make the structure from gradients by the names of the scan's arguments."""
        names = ('x', 'delta', 'z', 'A', 'B', 'C', 'D', 'delta_bias')
        return cls(*(address(tensors.get(name)) for name in names))


@dataclass(frozen=True)
class Tile:
    """The states and channels that the threads of a warp hold; see tile.cuh.

    Attributes:
        states: States of a channel, a power of two.
        states_held: States that a thread holds, a power of two.
        channels_held: Channels that a thread holds, a power of two.
    """

    states: int
    states_held: int
    channels_held: int

    @property
    def channels(self) -> int:
        """Channels that a warp holds."""
        return 32 // (self.states // self.states_held) * self.channels_held


def forward_tile(states: int) -> Tile:
    """The tile of the forward scan, whose threads hold up to 16 states to sum without exchange."""
    return Tile(states, min(states, 16), 2)


def whole_states(inputs: ScanInputs) -> int:
    """The states of a channel, rounded up to a power of two."""
    return 1 << (inputs.states - 1).bit_length()


def takes_scan(inputs: ScanInputs) -> bool:
    """Whether these kernels support a scan.

    They do not if B or C is constant, there are more than 32 states, or a number within an image
    has no 32-bit index.
    """
    widest = max(inputs.grid.channels, inputs.B_token, inputs.C_token, inputs.z_token)
    return (
        'constant' not in (inputs.B_kind, inputs.C_kind)
        and inputs.states <= MOST_STATES
        and within_reach(inputs.grid, widest)
    )


def contiguous_maps(inputs: ScanInputs) -> ScanInputs:
    """Make x and delta of a scan contiguous."""
    if inputs.x.is_contiguous() and inputs.delta.is_contiguous():
        return inputs
    return replace(inputs, x=inputs.x.contiguous(), delta=inputs.delta.contiguous())


def maps_at_once(inputs: ScanInputs) -> int:
    """Bytes of x, delta and z that can be copied at once."""
    channels = inputs.grid.channels
    tokens = ((inputs.x, channels), (inputs.delta, channels), (inputs.z, inputs.z_token))
    return copied_at_once(channels, tokens)


def pack_scan(inputs: ScanInputs, x: Tensor, delta: Tensor, start: Tensor | None) -> Scan:
    """Make the structure from contiguous maps, and the states that enter each segment if any."""
    return Scan(
        *map(address, (x, delta, inputs.delta_bias, inputs.A)),
        *map(address, (inputs.B, inputs.C, inputs.D, start, inputs.z)),
        *(inputs.B_token, inputs.C_token, inputs.z_token),
    )


def side_bytes(inputs: ScanInputs) -> int:
    """Bytes of a number of B and C."""
    return next((t.element_size() for t in (inputs.B, inputs.C) if t is not None), 4)


def staged_bytes(tokens: int, columns: int, number: int) -> int:
    """Bytes of ``Staged`` in stage.cuh, given the bytes of a number."""
    return -(-tokens * columns * number // 64) * 64


def scan_definitions(
    inputs: ScanInputs,
    tile: Tile,
    warps: int,
    blocks: int,
    maps: Sequence[Tensor],
    whole_channels: bool = False,
) -> dict[str, Any]:
    """Names and values for which scan.cuh is compiled, equal for all sizes of a map.

    Args:
        inputs: Inputs of the scan.
        tile: The tile of a warp.
        warps: Most warps of a block.
        blocks: Number of such blocks for which a multiprocessor has room.
        maps: All contiguous maps that the kernel loads or stores as channels.
        whole_channels: Whether every thread has all the channels that it may hold. False is always
            correct.
    """
    channels = inputs.grid.channels
    vectors = channels % tile.channels_held == 0 and loads_at_once(
        tile.channels_held, ((t, channels) for t in maps)
    )
    sides = ((inputs.B, inputs.B_token), (inputs.C, inputs.C_token))
    types = [NUMBERS[side.dtype] for side, _ in sides if side is not None]
    return dict(
        NUMBER=NUMBERS[inputs.x.dtype],
        SIDE=types[0] if types else 'float',
        STATES=tile.states,
        STATES_HELD=tile.states_held,
        CHANNELS_HELD=tile.channels_held,
        WHOLE_STATES=inputs.states == tile.states and loads_at_once(tile.states_held, sides),
        SIDE_BYTES=copied_at_once(inputs.states, sides),
        WHOLE_CHANNELS=vectors and whole_channels,
        VECTORS=vectors,
        B_TOKEN=int(inputs.B_kind == 'token'),
        C_TOKEN=int(inputs.C_kind == 'token'),
        LOG_A=inputs.log_A,
        HAS_D=inputs.D is not None,
        HAS_Z=inputs.z is not None,
        HAS_BIAS=inputs.delta_bias is not None,
        SOFTPLUS=SOFTPLUS[inputs.softplus],
        WARPS=warps,
        BLOCKS=blocks,
    )
