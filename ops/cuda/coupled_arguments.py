"""Arguments of the kernels for both passes of the exact 2D recurrence."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..directions import Corner, read_corners
from ..gpu.maps import Grid, power_of_two, token_layout, without_gaps
from ..runtime.launch import address
from .arguments import NUMBERS, loads_at_once, within_reach

__all__ = ['CoupledInputs', 'Edges', 'Maps', 'Patch', 'read_inputs']

MOST_STATES, MOST_CORNERS = 32, 32
MOST_COLUMNS, MOST_ROWS = 16, 16
"""Most columns of a strip and rows of a tile.

Shared memory has room for that many columns, and a block's own memory for that many rows.
"""

ROW_COST = 3
"""What a row of a strip costs beside its tokens, in tokens: the backward scan's times with strips
of 8 and of 16 columns say so."""

CHANNELS_HELD = 2
"""Channels that a thread holds."""


class Coupled(ctypes.Structure):
    """The structure ``Coupled`` in coupled.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('x', 'delta', 'bias', 'A', 'weight', 'D')),
        *((name, ctypes.c_void_p) for name in ('B', 'C')),
        *((name, ctypes.c_int) for name in ('B_token', 'C_token')),
    ]


class Maps(ctypes.Structure):
    """The structure ``Maps`` in coupled.cuh."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ('batch', 'height', 'width', 'channels')),
        *((name, ctypes.c_int) for name in ('states', 'corners')),
        *((name, ctypes.c_uint) for name in ('reverse_first', 'reverse_second', 'along_h')),
        *((name, ctypes.c_int) for name in ('strip', 'strips', 'tile')),
    ]


class Edges(ctypes.Structure):
    """The structure ``Edges`` in coupled.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('p', 'q', 'done')),
        ('slots', ctypes.c_int),
    ]


@dataclass(frozen=True)
class Patch:
    """The states of a channel and of a thread, each a power of two; see tile.cuh."""

    states: int
    states_held: int

    @property
    def warp_channels(self) -> int:
        """Channels that a warp holds."""
        return 32 // (self.states // self.states_held) * CHANNELS_HELD

    @property
    def warp_floats(self) -> int:
        """Numbers that a warp holds of p or of q."""
        return 32 * self.states_held * CHANNELS_HELD


@dataclass
class CoupledInputs:
    """The operator's arguments, laid out as the kernels read them.

    Attributes:
        x: (K, B, H, W, E), contiguous.
        delta: (2, K, B, H, W, E), contiguous.
        A: (2, 2, E, N), contiguous, float32.
        weight: (2, 2, E), contiguous, float32.
        B: (K, B, H, W, 2 N), tokens ``B_token`` elements apart.
        C: Like ``B``, with ``C_token``.
        D: (E,), contiguous, float32, or None.
        bias: (2, E), contiguous, float32, or None.
        softplus: Whether ``delta`` goes through a softplus.
        corners: K corners.
        states_held: States of a channel that a thread holds, at most.
    """

    x: Tensor
    delta: Tensor
    A: Tensor
    weight: Tensor
    B: Tensor
    C: Tensor
    B_token: int
    C_token: int
    D: Tensor | None
    bias: Tensor | None
    softplus: bool
    corners: Sequence[Corner]
    states_held: int

    def __post_init__(self) -> None:
        self.grid, self.states = Grid.of(self.x), self.A.shape[-1]
        whole = power_of_two(self.states)
        self.patch = Patch(whole, min(whole, self.states_held))
        self.images = len(self.corners) * self.grid.batch

    @property
    def sides(self) -> set[tuple[int, int]]:
        """Rows and columns of each kind of corner: tokens along its second and first direction."""
        length = self.grid.length
        return {(length(c.second.axis), length(c.first.axis)) for c in self.corners}

    @property
    def columns(self) -> int:
        """The largest number of columns of a corner."""
        return max(columns for _, columns in self.sides)

    @property
    def rows(self) -> int:
        """The largest number of rows of a corner."""
        return max(rows for rows, _ in self.sides)

    @property
    def warps_of_channels(self) -> int:
        """Number of warps that together hold all channels of a token."""
        return -(-self.grid.channels // self.patch.warp_channels)

    def maps(self, strip: int, tile: int) -> Maps:
        """Describe the maps for the kernels.

        Args:
            strip: Columns of a strip.
            tile: Rows of a tile.
        """

        def mask(bits: Sequence[bool]) -> int:
            return sum(bit << k for k, bit in enumerate(bits))

        firsts, seconds = zip(*((c.first, c.second) for c in self.corners), strict=True)
        return Maps(
            *(*self.grid, self.states, len(self.corners)),
            mask([walk.reverse for walk in firsts]),
            mask([walk.reverse for walk in seconds]),
            mask([walk.axis == 1 for walk in firsts]),
            *(strip, -(-self.columns // strip), tile),
        )

    def pack(self) -> Coupled:
        """The structure that the kernels take."""
        parameters = (self.bias, self.A, self.weight, self.D)
        tensors = (self.x, self.delta, *parameters, self.B, self.C)
        return Coupled(*map(address, tensors), self.B_token, self.C_token)

    def definitions(self, warps: int, blocks: int, maps: Sequence[Tensor]) -> dict:
        """Names and values for which coupled.cuh is compiled, equal for all sizes of a map.

        Args:
            warps: Warps of a block.
            blocks: Number of such blocks for which a multiprocessor has room.
            maps: All contiguous maps that the kernel loads or stores.
        """
        channels, sides = self.grid.channels, ((self.B, self.B_token), (self.C, self.C_token))
        at_once = (n for n in (4, 2, 1) if self.states % n == 0 and loads_at_once(n, sides))
        found: dict[str, Any] = dict(
            NUMBER=NUMBERS[self.x.dtype],
            STATES=self.patch.states,
            STATES_HELD=self.patch.states_held,
            CHANNELS_HELD=CHANNELS_HELD,
            WHOLE_STATES=self.states == self.patch.states,
            WHOLE_CHANNELS=False,
            VECTORS=channels % CHANNELS_HELD == 0
            and loads_at_once(CHANNELS_HELD, ((t, channels) for t in maps)),
            SIDES=next(at_once),
            HAS_D=self.D is not None,
            HAS_BIAS=self.bias is not None,
            SOFTPLUS=self.softplus,
            WARPS=warps,
            BLOCKS=blocks,
        )
        return found

    def choose_strip(self, units: int, slots: int, most: int = MOST_COLUMNS) -> int:
        """Choose the columns of a strip.

        Strips are wide, because each row of a strip has costs of its own, but narrow enough to fill
        the GPU.

        Args:
            units: Blocks that are needed for one strip of all images.
            slots: Blocks for which the GPU has room.
            most: Columns for which shared memory has room.
        """
        columns, most = self.columns, min(most, MOST_COLUMNS)
        if columns <= most:
            return columns

        def cost(strip: int) -> int:
            return -(-units * -(-columns // strip) // slots) * (strip + ROW_COST)

        return min(range(most, 0, -1), key=cost)


def read_inputs(
    states_held: int,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    weight: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    corners: str,
) -> CoupledInputs | None:
    """Lay out the operator's arguments for the kernels, or return None if they are not supported.

    The kernels support up to 32 states and corners, and images whose numbers have 32-bit indices.
    They do not support maps without tokens, channels or states.
    """
    ways = read_corners(corners)[0].corners
    if not x.numel() or not 0 < A.shape[-1] <= MOST_STATES or len(ways) > MOST_CORNERS:
        return None
    (B, B_token), (C, C_token) = (token_layout(side.flatten(-2)) for side in (B, C))
    grid = Grid.of(x)
    if not within_reach(grid, max(grid.channels, B_token, C_token)):
        return None
    D, bias = without_gaps(D, delta_bias)
    maps = (x.contiguous(), delta.contiguous(), A.contiguous(), weight.contiguous())
    sides = (B, C, B_token, C_token)
    return CoupledInputs(*maps, *sides, D, bias, delta_softplus, ways, states_held)
