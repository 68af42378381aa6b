"""The scan in CUDA C++: arguments and launches of the kernels."""

import ctypes
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..gpu.scan_inputs import ScanInputs, make_output
from ..runtime.compile import Definitions
from ..runtime.hardware import hardware_of
from ..runtime.launch import Launch, address, launch, multiprocessors
from .arguments import MOST_WARPS, NUMBERS, choose_warps, copied_at_once, make_map
from .scan_arguments import (
    contiguous_maps,
    forward_tile,
    maps_at_once,
    pack_scan,
    scan_definitions,
    side_bytes,
    staged_bytes,
    takes_scan,
    whole_states,
)
from .scan_edges import STEPS, UNROLL, WARPS_AT_ONCE, SegmentEdges, plan_segments

__all__ = ['scans_forward']

SUMMED_STEPS = 32
"""Longest lanes whose sums over directions are kept in shared memory."""


def scans_forward(
    inputs: ScanInputs,
    sums: bool = False,
    dtype: torch.dtype | None = None,
    add_to: Tensor | None = None,
) -> Tensor:
    """See :meth:`mmv2m.ops.gpu.kernels.Kernels.scans_forward`."""
    if not takes_scan(inputs):
        return NotImplemented
    y = make_output(inputs.x, len(inputs.directions), sums, dtype, add_to)
    if y.numel():
        for call in _ForwardScan(inputs, sums, y, adds=add_to is not None).calls():
            launch(call, y.device)
    return y


class _ForwardScan:
    """The launches of the kernel that fill ``y``, or add to it if outputs are summed."""

    def __init__(self, inputs: ScanInputs, sums: bool, y: Tensor, adds: bool) -> None:
        inputs, self.adds = contiguous_maps(inputs), adds
        self.inputs, self.sums, self.y, self.grid = inputs, sums, y, inputs.grid
        self.x, self.delta = inputs.x, inputs.delta
        self.walks = inputs.directions
        self.tile = forward_tile(whole_states(inputs))
        columns = -(-self.grid.channels // self.tile.channels)
        self.warps = choose_warps(columns, self._most_warps())
        self.groups = -(-columns // self.warps)
        self.blocks = WARPS_AT_ONCE[self.tile.states] // self.warps
        self.most_rows = multiprocessors(self.x.device) * self.blocks // self.groups
        self.edges = self._cut()
        self.number, self.steps = 1, 2**31 - 1
        if self.edges is not None:
            self.number, self.steps = self.edges.number, self.edges.steps

    def _most_warps(self) -> int:
        """Most warps of a block for which shared memory has room."""
        summed = SUMMED_STEPS if self.sums else 0
        size = self._warp_bytes(self.inputs, summed)
        return hardware_of(self.x.device).shared_bytes_of_block // size

    def _cut(self) -> SegmentEdges | None:
        """The edges of segments, or None if it is better to leave lanes whole."""
        counted = self.walks[:1] if self.sums else self.walks
        lanes = sum(
            self.grid.tokens // self.grid.length(self.walks[k].axis) for k in range(len(counted))
        )
        segments = plan_segments(self.inputs, lanes, self.most_rows)
        return None if segments is None else SegmentEdges(self.inputs, segments)

    def calls(self) -> Iterator[Launch]:
        """Launches that compute the states that enter segments, if any, and the scan's launches.

        Without sums, the scan is one launch. With sums, which have an order, there is one launch
        for each axis or direction, and the last one applies the gate.
        """
        if self.edges is not None:
            yield from self.edges.calls()
        parts = self._parts()
        for i, part in enumerate(parts):
            inputs = self.inputs if i + 1 == len(parts) else self.inputs.with_gate(None)
            yield self._call(inputs, part, adds=self.adds or i > 0)

    def _parts(self) -> list[Sequence[int]]:
        """The directions of each launch."""
        if not self.sums:
            return [range(len(self.walks))]
        parts: list[Sequence[int]] = []
        for axis in (2, 1):
            members = [k for k, walk in enumerate(self.walks) if walk.axis == axis]
            together = bool(members) and self._steps(members) <= SUMMED_STEPS
            parts += [members] if together else [[k] for k in members]
        return parts

    def _steps(self, members: Sequence[int]) -> int:
        """Steps of the longest lane or segment."""
        return min(self.steps, max(self.grid.length(self.walks[k].axis) for k in members))

    def _call(self, inputs: ScanInputs, members: Sequence[int], adds: bool) -> Launch:
        # If outputs are summed, a warp walks along its lanes in all directions of the axis.
        counted = members[:1] if self.sums else members
        lanes = sum(
            self.number * self.grid.tokens // self.grid.length(self.walks[k].axis) for k in counted
        )
        summed = self._steps(members) if self.sums and len(members) > 1 else 0
        start = None if self.edges is None else self.edges.states
        arguments = (
            pack_scan(inputs, self.x, self.delta, start),
            ctypes.c_void_p(address(self.y)),
            make_map(self.grid, [self.walks[k] for k in members], self.number, self.steps),
            ctypes.c_uint(sum(k << 4 * i for i, k in enumerate(members))),
            *map(ctypes.c_int, (adds, inputs.states, summed)),
        )
        return Launch(
            'scan_forward.cu',
            self._definitions(inputs),
            (max(1, min(lanes, self.most_rows)), self.groups),
            32 * self.warps,
            self._warp_bytes(inputs, summed) * self.warps,
            arguments,
        )

    def _warp_bytes(self, inputs: ScanInputs, summed: int) -> int:
        """Bytes of a warp's shared memory: two stages, and the sums of ``summed`` steps."""
        return 2 * self._stage_bytes(inputs) + summed * self.tile.channels * 4

    def _stage_bytes(self, inputs: ScanInputs) -> int:
        """Bytes of ``Stage`` in the kernel."""
        channels, states = self.tile.channels, self.tile.states
        return sum(
            staged_bytes(STEPS if whole else 1, columns, number)
            for whole, columns, number in (
                (True, channels, self.x.element_size()),
                (True, channels, self.x.element_size()),
                (inputs.z is not None, channels, self.x.element_size()),
                (inputs.B_kind == 'token', states, side_bytes(inputs)),
                (inputs.C_kind == 'token', states, side_bytes(inputs)),
                (self.sums, channels, self.y.element_size()),
            )
        )

    def _definitions(self, inputs: ScanInputs) -> Definitions:
        maps, channels = (self.x, self.delta, self.y), self.grid.channels
        blocks = WARPS_AT_ONCE[self.tile.states] // MOST_WARPS
        common = scan_definitions(inputs, self.tile, MOST_WARPS, blocks, maps)
        more = dict(
            OUTPUT=NUMBERS[self.y.dtype],
            SUMS=self.sums,
            STEPS=STEPS,
            UNROLL=UNROLL,
            MAP_BYTES=maps_at_once(inputs),
            SUM_BYTES=copied_at_once(channels, [(self.y, channels)]),
        )
        return tuple({**common, **more}.items())
