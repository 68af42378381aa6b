"""Cutting long lanes into segments, and finding what enters these: two kernels' arguments.

As in :mod:`mmv2m.ops.gpu.segments`; the backward pass finds states and gradients in one
walk, and has them chained in one launch.
"""

import ctypes
from collections.abc import Iterator

import torch
from torch import Tensor

from ..gpu.maps import by_axis
from ..gpu.scan_inputs import ScanInputs
from ..gpu.segments import Segments
from ..runtime.compile import Definitions
from ..runtime.launch import Launch, address, multiprocessors
from .arguments import MOST_WARPS, NUMBERS, choose_warps, copied_at_once, make_map
from .scan_arguments import (
    forward_tile,
    maps_at_once,
    pack_scan,
    scan_definitions,
    side_bytes,
    staged_bytes,
    whole_states,
)

__all__ = ['STEPS', 'UNROLL', 'WARPS_AT_ONCE', 'SegmentEdges', 'plan_segments']

LEAST_STEPS, LEAST_SEGMENTS = 64, 4
"""Shorter segments, or fewer of them, are not worth the extra pass."""

WARPS_AT_ONCE = {1: 32, 2: 32, 4: 24, 8: 16, 16: 12, 32: 12}
"""Warps of a multiprocessor, by states, of the forward scan too: as many as have registers enough,
or fewer where that is faster."""

WARPS_WITH_GRADIENTS = {1: 24, 2: 24, 4: 16, 8: 16, 16: 12, 32: 12}
"""Those that find gradients too: as many as have registers and shared memory enough."""

STEPS, UNROLL = 8, 2
"""Tokens of a stretch, which a warp copies while it computes the one before, and steps whose
instructions the compiler may mix; of the forward scan too."""

CHAIN_WARPS, CHAIN_DEPTH = 32, 8
"""Warps, at most, that share out the segments of a lane, and segments that each loads at once."""


def plan_segments(inputs: ScanInputs, lanes: int, rows: int) -> Segments | None:
    """How to cut the lanes of a scan, or None if they are better left whole.

    Args:
        inputs: Of the scan.
        lanes: That are walked along at once.
        rows: Lanes or segments that the GPU has room for at once. There are no more segments, so
            that all are done at the same time.
    """
    groups = by_axis(inputs.directions)
    if len(groups) != 1 or not inputs.x.numel():
        return None
    length = groups[0].length(inputs.grid)
    number = min(rows // lanes, length // LEAST_STEPS)
    if number < LEAST_SEGMENTS:
        return None
    steps = -(-length // number)
    return Segments(-(-length // steps), steps)


class SegmentEdges:
    """What enters each segment, once the calls have run.

    Args:
        inputs: Of the scan; its x and delta contiguous.
        segments: How its lanes are cut.
        grad_y: To find gradients too, (K, B, H, W, E), or (B, H, W, E) if ``shared``; contiguous.
        shared: Whether all directions have the same output gradient.

    Attributes:
        number: Segments of a lane.
        steps: Tokens of a segment.
        states: That enter each segment, (K * lanes * segments, E, N rounded up to a power of two),
            float32.
        gradients: Those of the states that leave each segment, of the same shape; None without
            ``grad_y``.
    """

    def __init__(
        self,
        inputs: ScanInputs,
        segments: Segments,
        grad_y: Tensor | None = None,
        shared: bool = False,
    ) -> None:
        self.inputs, self.grad_y, self.shared = inputs, grad_y, shared
        self.number, self.steps = segments
        self.tile = forward_tile(whole_states(inputs))
        # Single states have one kernel for a B, a C or both, which finds out what there is.
        single = inputs.states == 1 and 'token' in (inputs.B_kind, inputs.C_kind)
        self.may_have_B = single or inputs.B_kind == 'token'
        self.may_have_C = grad_y is not None and (single or inputs.C_kind == 'token')
        (group,), grid = by_axis(inputs.directions), inputs.grid
        self.lanes = group.lanes(grid) * len(group.walks)
        rows, kinds = self.lanes * self.number, 1 if grad_y is None else 2
        shape = (kinds, rows, grid.channels, self.tile.states)
        self.edges = inputs.x.new_empty(shape, dtype=torch.float32)
        self.totals = inputs.x.new_empty((rows, grid.channels), dtype=torch.float32)
        self.states = self.edges[0]
        self.gradients = None if grad_y is None else self.edges[1]
        self.map = make_map(grid, inputs.directions, *segments)

    def calls(self) -> Iterator[Launch]:
        """What each segment does, and what enters each."""
        yield self._sums()
        yield self._chain()

    def _sums(self) -> Launch:
        inputs, grid = self.inputs, self.inputs.grid
        columns = -(-grid.channels // self.tile.channels)
        warps = choose_warps(columns)
        at_once = WARPS_AT_ONCE if self.grad_y is None else WARPS_WITH_GRADIENTS
        groups, blocks = -(-columns // warps), at_once[self.tile.states] // warps
        most = max(1, multiprocessors(inputs.x.device) * blocks // groups)
        arguments = (
            pack_scan(inputs, inputs.x, inputs.delta, None),
            ctypes.c_void_p(address(self.grad_y)),
            ctypes.c_int(self.shared),
            self.map,
            *(ctypes.c_void_p(address(t)) for t in (self.edges, self.totals)),
            ctypes.c_int(inputs.states),
        )
        return Launch(
            'scan_edges.cu',
            self._definitions(at_once[self.tile.states] // MOST_WARPS),
            (min(self.lanes * self.number, most), groups),
            32 * warps,
            2 * self._stage_bytes() * warps,
            arguments,
        )

    def _stage_bytes(self) -> int:
        """Size of ``Stage`` in the kernel."""
        inputs, adjoint = self.inputs, self.grad_y is not None
        channels, states, number = self.tile.channels, self.tile.states, inputs.x.element_size()
        gradient = number if self.grad_y is None else self.grad_y.element_size()
        return sum(
            staged_bytes(STEPS if whole else 1, columns, size)
            for whole, columns, size in (
                (True, channels, number),
                (True, channels, number),
                (adjoint and inputs.z is not None, channels, number),
                (adjoint, channels, gradient),
                (self.may_have_B, states, side_bytes(inputs)),
                (self.may_have_C, states, side_bytes(inputs)),
            )
        )

    def _definitions(self, blocks: int) -> Definitions:
        inputs, channels = self.inputs, self.inputs.grid.channels
        gradient = inputs.x if self.grad_y is None else self.grad_y
        common = scan_definitions(inputs, self.tile, MOST_WARPS, blocks, ())
        more = dict(
            B_TOKEN=int(self.may_have_B),
            C_TOKEN=int(self.may_have_C),
            ADJOINT=self.grad_y is not None,
            GRADIENT=NUMBERS[gradient.dtype],
            SUMS=False,
            STEPS=STEPS,
            UNROLL=UNROLL,
            MAP_BYTES=maps_at_once(inputs),
            GRADIENT_BYTES=copied_at_once(channels, [(gradient, channels)]),
        )
        return tuple({**common, **more}.items())

    def _chain(self) -> Launch:
        inputs, states = self.inputs, self.tile.states
        warps = max(1, min(CHAIN_WARPS, -(-self.number // CHAIN_DEPTH)))
        pointers = (inputs.A, self.edges, self.totals)
        return Launch(
            'chain_edges.cu',
            (
                *(('STATES', states), ('LOG_A', inputs.log_A)),
                *(('WARPS', CHAIN_WARPS), ('DEPTH', CHAIN_DEPTH)),
            ),
            (self.edges.shape[0] * self.lanes, -(-inputs.grid.channels * states // 32)),
            32 * warps,
            2 * 4 * 32 * warps,
            (
                *(ctypes.c_void_p(address(t)) for t in pointers),
                self.map,
                ctypes.c_int(inputs.states),
            ),
        )
