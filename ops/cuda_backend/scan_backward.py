"""The arguments of the backward scan in CUDA C++, and its launch."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from ..directions import get_direction
from ..triton_backend import scan_backward as triton_scan_backward
from ..triton_backend.scan import ScanInputs
from ..triton_backend.segments import SegmentEdges
from .arguments import NUMBERS, Map, choose_warps, loads_at_once, make_map, within_reach
from .launch import Launch, address, launch, multiprocessors

__all__ = ['BackwardScan', 'scans_backward']

SOFTPLUS = dict(none=0, apply=1, applied=2)
MOST_STATES = 32
WARPS_AT_ONCE = {1: 28, 2: 24, 4: 16, 8: 12, 16: 12, 32: 12}
"""Warps of a multiprocessor, by states: as many as have registers enough (168 a thread for 12), and
for a single state shared memory enough to hold the history of 60 steps."""
SHARED_BYTES = 216 * 1024
"""Shared memory of a multiprocessor that its blocks may have together."""


class Tensors(ctypes.Structure):
    """``Tensors`` of the kernel."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('grad_y', 'x', 'delta', 'delta_bias', 'A')),
        *((name, ctypes.c_void_p) for name in ('B', 'C', 'D', 'start', 'incoming')),
        *((name, ctypes.c_int) for name in ('B_token', 'C_token')),
    ]


class Gradients(ctypes.Structure):
    """``Gradients`` of the kernel."""

    _fields_ = [(name, ctypes.c_void_p) for name in ('x', 'delta', 'A', 'B', 'C', 'D', 'bias')]


@dataclass(frozen=True)
class Tile:
    """What a warp holds of channels and states: tile.cuh in Python."""

    states: int
    channels: int

    @classmethod
    def of(cls, states: int) -> 'Tile':
        """The tile for a number of states, rounded up to a power of two."""
        states_held = min(states, 4)
        lanes = states // states_held
        return cls(states_held, 32 // lanes * cls.channels_held(states))

    @staticmethod
    def channels_held(states: int) -> int:
        """Neighbouring channels of a thread."""
        return 2 if states <= 4 else 4


def scans_backward(
    grad_y: Tensor, inputs: ScanInputs, sums: bool = False
) -> dict[str, Tensor | None]:
    """See :func:`mmv2m.ops.triton_backend.scan_backward.scans_backward`.

    What this kernel does not serve, that one does: constant B or C, more than 32 states, and maps
    within an image of which not every number has a 32-bit index.
    """
    if not _serves(inputs) or not grad_y.numel():
        return triton_scan_backward.scans_backward(grad_y, inputs, sums)
    scan = BackwardScan(grad_y, inputs, sums, multiprocessors(grad_y.device))
    launch(scan.call(), grad_y.device)
    return scan.sum_up()


def _serves(inputs: ScanInputs) -> bool:
    grid = inputs.grid
    widest = max(grid.channels, inputs.B_token, inputs.C_token)
    return (
        'constant' not in (inputs.B_kind, inputs.C_kind)
        and inputs.states <= MOST_STATES
        and within_reach(grid, widest)
    )


class BackwardScan:
    """One call of the kernel, and the buffers that it fills.

    Args:
        grad_y: Gradient of the output, (K, B, H, W, E), or (B, H, W, E) if ``sums``.
        inputs: Arguments of the forward scan.
        sums: Whether the outputs were summed over the directions.
        multiprocessors: Of the GPU; decides on how many blocks share out the lanes.
    """

    def __init__(
        self, grad_y: Tensor, inputs: ScanInputs, sums: bool, multiprocessors: int
    ) -> None:
        self.inputs, self.sums, self.grid = inputs, sums, inputs.grid
        self.x, self.delta, self.grad_y = (t.contiguous() for t in (inputs.x, inputs.delta, grad_y))
        self.states = 1 << (inputs.states - 1).bit_length()
        self.tile = Tile.of(self.states)
        self.walks = [get_direction(name) for name in inputs.directions]
        column_blocks = -(-self.grid.channels // self.tile.channels)
        self.warps = choose_warps(column_blocks)
        self.groups = -(-column_blocks // self.warps)
        self.blocks = WARPS_AT_ONCE[self.states] // self.warps
        self.edges = SegmentEdges.of(grad_y, inputs, sums)
        lanes = sum(self.grid.tokens // self._length(walk.axis) for walk in self.walks)
        lanes *= self.edges.number
        self.rows = max(1, min(lanes, multiprocessors * self.blocks // self.groups))
        self._allocate()
        self.cut(2 * (SHARED_BYTES // self.blocks // self._slot_bytes()))

    def _length(self, axis: int) -> int:
        return self.grid.height if axis == 1 else self.grid.width

    def _slot_bytes(self) -> int:
        """Bytes of the history of two steps."""
        return self.warps * self.tile.channels * self.states * 4

    def _allocate(self) -> None:
        grid, inputs, count = self.grid, self.inputs, len(self.walks)

        def floats(*shape: int) -> Tensor:
            return self.x.new_empty(shape, dtype=torch.float32)

        self.maps = dict(x=torch.empty_like(self.x), delta=torch.empty_like(self.x))
        self.partial: dict[str, Tensor | None] = dict(
            A=floats(self.rows, grid.channels, inputs.states)
        )
        for name, kind in (('B', inputs.B_kind), ('C', inputs.C_kind)):
            tokens = (self.groups, count, *grid[:3], inputs.states)
            self.partial[name] = floats(*tokens) if kind == 'token' else None
        for name in ('D', 'delta_bias'):
            absent = getattr(inputs, name) is None
            self.partial[name] = None if absent else floats(self.rows, grid.channels)

    def cut(self, most_steps: int) -> None:
        """Cut lanes into chunks of at most so many steps, as even as possible."""
        longest = self.edges.steps or max(self._length(walk.axis) for walk in self.walks)
        self.chunks = -(-longest // most_steps)
        self.chunk = -(-longest // self.chunks)
        # What is carried from chunk to chunk: a tile for each warp.
        tiles = self.groups * self.rows * self.warps * self.chunks if self.chunks > 1 else 0
        floats = tiles * self.tile.channels * self.states
        self.carried = self.x.new_empty(floats, dtype=torch.float32)

    def sum_up(self) -> dict[str, Tensor | None]:
        """All gradients; in fixed order, so two runs agree to the bit."""
        summed = {name: None if p is None else p.sum(0) for name, p in self.partial.items()}
        return {**self.maps, **summed}

    def call(self) -> Launch:
        """The call of the kernel."""
        arguments = (
            self._tensors(),
            self._gradients(),
            self._map(),
            ctypes.c_void_p(address(self.carried)),
            *map(ctypes.c_int, (self.inputs.states, self.chunk, self.chunks)),
        )
        return Launch(
            'scan_backward.cu',
            self._definitions(),
            (self.rows, self.groups),
            32 * self.warps,
            (self.chunk + 1) // 2 * self._slot_bytes(),
            arguments,
        )

    def _tensors(self) -> Tensors:
        given = self.inputs
        return Tensors(
            *map(address, (self.grad_y, self.x, self.delta, given.delta_bias, given.A)),
            *map(address, (given.B, given.C, given.D)),
            *map(address, (self.edges.states, self.edges.gradients)),
            *(given.B_token, given.C_token),
        )

    def _gradients(self) -> Gradients:
        partial = (self.partial[name] for name in ('A', 'B', 'C', 'D', 'delta_bias'))
        return Gradients(*map(address, (*self.maps.values(), *partial)))

    def _map(self) -> Map:
        if self.edges.states is None:
            return make_map(self.grid, self.walks)
        return make_map(self.grid, self.walks, self.edges.number, self.edges.steps)

    def _definitions(self) -> tuple[tuple[str, object], ...]:
        """What the kernel is compiled for; see its source."""
        given, grid = self.inputs, self.grid
        held, states = Tile.channels_held(self.states), self.tile.states
        maps = ((t, grid.channels) for t in (self.x, self.delta, self.grad_y))
        sides = ((given.B, given.B_token), (given.C, given.C_token))
        vectors = loads_at_once(held, maps)
        types = [NUMBERS[side.dtype] for side, _ in sides if side is not None]
        values = dict(
            NUMBER=NUMBERS[self.x.dtype],
            SIDE=types[0] if types else 'float',
            STATES=self.states,
            CHANNELS_HELD=held,
            WHOLE_STATES=given.states == self.states and loads_at_once(states, sides),
            WHOLE_CHANNELS=vectors and grid.channels % (self.warps * self.tile.channels) == 0,
            VECTORS=vectors,
            B_TOKEN=int(given.B_kind == 'token'),
            C_TOKEN=int(given.C_kind == 'token'),
            HAS_D=given.D is not None,
            HAS_BIAS=given.delta_bias is not None,
            SOFTPLUS=SOFTPLUS[given.softplus],
            SHARED_Y=self.sums,
            WARPS=self.warps,
            BLOCKS=self.blocks,
        )
        return tuple(values.items())
