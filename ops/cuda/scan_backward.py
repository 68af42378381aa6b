"""The backward scan in CUDA C++: arguments and launches of the kernels."""

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..gpu.scan_inputs import ScanInputs, gradient_buffers
from ..runtime.hardware import hardware_of
from ..runtime.launch import Launch, address, launch, multiprocessors
from .arguments import MOST_WARPS, NUMBERS, choose_warps, copied_at_once, make_map
from .scan_arguments import (
    Gradients,
    Tile,
    contiguous_maps,
    pack_scan,
    scan_definitions,
    side_bytes,
    staged_bytes,
    takes_scan,
    whole_states,
)
from .scan_backward_single import SingleBackwardScan, takes_single_states
from .scan_edges import SegmentEdges, plan_segments

__all__ = ['BackwardScan', 'scans_backward']

WARPS_AT_ONCE = {(1, 2): 28, (1, 4): 15, (2, 2): 24, (4, 2): 16}
"""Warps of a multiprocessor, by the states and channels that a thread holds.

There are enough registers for that many warps. Where fewer warps are faster, there are fewer.
"""

WIDE_WARPS = 3
"""Most warps of a block whose threads hold four channels of a single state.

With blocks of four warps, three of a multiprocessor's 15 warps could not be used.
"""

ENOUGH_WARPS = 12
"""The least number of warps of a multiprocessor for which lanes stay whole. With fewer, lanes are
cut into chunks, and each chunk is walked over once more."""

MANY_STATES_WARPS, MANY_STATES_ENOUGH = 12, 8
"""``WARPS_AT_ONCE`` and ``ENOUGH_WARPS`` for threads that hold a whole tile in 168 registers."""

TILE = (8, 2)
"""States and channels that a thread holds if there are more than four states."""

INSTRUCTIONS_ASIDE = 1.0
"""Constant cost of a step with a single state, in units of the cost of one channel.

It decides on the number of channels that a thread holds.
"""


def backward_tile(states: int, channels: int) -> Tile:
    """The tile of the backward scan, which spans both states and channels, to sum over both."""
    if states > 4:
        held = min(states, TILE[0])
        return Tile(states, held, TILE[1] * TILE[0] // held)
    if states > 1:
        return Tile(states, states, 2)
    return min(
        (Tile(1, 1, held) for held in (4, 2)),
        key=lambda tile: -(-channels // tile.channels) * (tile.channels_held + INSTRUCTIONS_ASIDE),
    )


def scans_backward(
    grad_y: Tensor, inputs: ScanInputs, sums: bool = False
) -> dict[str, Tensor | None]:
    """See :meth:`mmv2m.ops.gpu.kernels.Kernels.scans_backward`; gates need a single state."""
    if not takes_scan(inputs) or not grad_y.numel():
        return NotImplemented
    single = takes_single_states(inputs)
    if inputs.z is not None and not single:
        return NotImplemented
    kind = SingleBackwardScan if single else BackwardScan
    scan = kind(grad_y, inputs, sums, multiprocessors(grad_y.device))
    for call in scan.calls():
        launch(call, grad_y.device)
    return scan.gradients


class BackwardScan:
    """The launches of the kernels, and the buffers that they fill.

    Args:
        grad_y: Gradient of the output, (K, B, H, W, E), or (B, H, W, E) if ``sums``.
        inputs: Arguments of the forward scan, without a gate.
        sums: Whether the outputs were summed over the directions.
        multiprocessors: Multiprocessors of the GPU, which determine the number of blocks.
    """

    def __init__(
        self, grad_y: Tensor, inputs: ScanInputs, sums: bool, multiprocessors: int
    ) -> None:
        inputs = contiguous_maps(inputs)
        self.inputs, self.sums, self.grid = inputs, sums, inputs.grid
        self.x, self.delta, self.grad_y = inputs.x, inputs.delta, grad_y.contiguous()
        self.tile = backward_tile(whole_states(inputs), self.grid.channels)
        self.walks = inputs.directions
        column_blocks = -(-self.grid.channels // self.tile.channels)
        wide = self.tile.channels_held == 4 and self.tile.states == 1
        self.warps = choose_warps(column_blocks, WIDE_WARPS if wide else MOST_WARPS)
        self.groups = -(-column_blocks // self.warps)
        lanes = sum(self.grid.lanes(walk.axis) for walk in self.walks)
        self.edges = self._cut_lanes(lanes, multiprocessors)
        self.longest = max(self.grid.length(walk.axis) for walk in self.walks)
        if self.edges is not None:
            self.longest, lanes = self.edges.steps, lanes * self.edges.number
        self.blocks = self._choose_blocks()
        self.rows = max(1, min(lanes, multiprocessors * self.blocks // self.groups))
        self.gradients = gradient_buffers(inputs, self.rows, self.groups)
        most = self._most_steps(self.blocks, self.edges is None)
        self.cut(most if most >= self.longest else self._most_steps(self.blocks))

    def _cut_lanes(self, lanes: int, multiprocessors: int) -> SegmentEdges | None:
        rows = multiprocessors * self._most_blocks() // self.groups
        segments = plan_segments(self.inputs, lanes, rows)
        if segments is None:
            return None
        return SegmentEdges(self.inputs, segments, self.grad_y, self.sums)

    def _most_blocks(self) -> int:
        held = (self.tile.states, self.tile.channels_held)
        return WARPS_AT_ONCE.get(held, MANY_STATES_WARPS) // self.warps

    def _choose_blocks(self) -> int:
        """Choose the number of blocks of a multiprocessor."""
        most = self._most_blocks()
        enough = MANY_STATES_ENOUGH if self.tile.states > 4 else ENOUGH_WARPS
        fewest = min(most, -(-enough // self.warps))
        uncut = (
            n
            for n in range(most, fewest - 1, -1)
            if self._most_steps(n, self.edges is None) >= self.longest
        )
        return next(uncut, most)

    def _most_steps(self, blocks: int, from_zero: bool = False) -> int:
        """Most steps of a chunk for which shared memory has room.

        Args:
            blocks: Blocks of a multiprocessor.
            from_zero: Whether each chunk is a whole lane, which begins with states of zero.
        """
        hardware = hardware_of(self.x.device)
        of_block = hardware.shared_bytes // blocks - hardware.reserved_bytes
        one, two = (self._shared_bytes(pairs, from_zero) for pairs in (1, 2))
        return 2 * (1 + (of_block - one) // (two - one))

    def _shared_bytes(self, pairs: int, from_zero: bool) -> int:
        """Bytes of a block, ``Memory`` in the kernel: a history and a stage per pair of steps."""
        channels, states = self.tile.channels, self.tile.states
        sides = (self.inputs.B_kind, self.inputs.C_kind).count('token')
        staged = [(2, channels, t.element_size()) for t in (self.x, self.delta, self.grad_y)]
        staged.append((2 * max(1, sides), states, side_bytes(self.inputs)))
        patch, sums = channels * states * 4, staged_bytes(2, sides * states, 4)
        of_pair = self.warps * (patch + sum(staged_bytes(*s) for s in staged))
        # All warps share one patch of zeros for their first pair. Of the pair's own patch, only the
        # end remains, which holds sums.
        spared = self.warps * (patch - sums) - patch if from_zero else 0
        return pairs * of_pair - spared

    def cut(self, most_steps: int) -> None:
        """Cut lanes into chunks of at most ``most_steps`` steps, as even as possible."""
        self.chunks = -(-self.longest // most_steps)
        self.chunk = -(-self.longest // self.chunks)
        # Each warp carries a tile from chunk to chunk.
        tiles = self.groups * self.rows * self.warps * self.chunks if self.chunks > 1 else 0
        floats = tiles * self.tile.channels * self.tile.states
        self.carried = self.x.new_empty(floats, dtype=torch.float32)

    def calls(self) -> Iterator[Launch]:
        """Launches that compute the states at the edges of segments, if any, and the scan's."""
        if self.edges is not None:
            yield from self.edges.calls()
        yield self.call()

    def call(self) -> Launch:
        """The launch of the scan itself."""
        states, gradients, whole = None, None, make_map(self.grid, self.walks)
        if self.edges is not None:
            states, gradients = self.edges.states, self.edges.gradients
        arguments = (
            pack_scan(self.inputs, self.x, self.delta, states),
            ctypes.c_void_p(address(self.grad_y)),
            ctypes.c_void_p(address(gradients)),
            Gradients.of(self.gradients),
            whole if self.edges is None else self.edges.map,
            ctypes.c_void_p(address(self.carried)),
            *map(ctypes.c_int, (self.inputs.states, self.chunk, self.chunks)),
        )
        return Launch(
            'scan_backward.cu',
            tuple(self._definitions().items()),
            (self.rows, self.groups),
            32 * self.warps,
            self._shared_bytes((self.chunk + 1) // 2, self.chunks == 1 and self.edges is None),
            arguments,
        )

    def _definitions(self) -> dict[str, Any]:
        maps = (self.x, self.delta, self.grad_y)
        channels = self.grid.channels
        whole = channels % (self.warps * self.tile.channels) == 0
        blocks = self._most_blocks()
        common = scan_definitions(self.inputs, self.tile, self.warps, blocks, maps, whole)
        copied = [copied_at_once(channels, [(t, channels)]) for t in maps]
        return dict(
            common,
            GRADIENT=NUMBERS[self.grad_y.dtype],
            SHARED_Y=self.sums,
            MAP_BYTES=min(copied),
        )
