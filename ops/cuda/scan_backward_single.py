"""The backward scan of single states in CUDA C++, where lanes are not short or there is a gate."""

import ctypes
from collections.abc import Iterator

from torch import Tensor

from ..gpu.maps import by_axis
from ..gpu.scan_inputs import ScanInputs, gradient_buffers
from ..gpu.segments import Segments
from ..runtime.compile import Definitions
from ..runtime.launch import Launch, address
from .arguments import NUMBERS, copied_at_once, make_map
from .scan_arguments import (
    Gradients,
    contiguous_maps,
    forward_tile,
    maps_at_once,
    pack_scan,
    scan_definitions,
    staged_bytes,
)
from .scan_edges import SegmentEdges

__all__ = ['SingleBackwardScan', 'segment_steps', 'takes_single_states']

WARPS, STEPS = 8, 8
"""Warps of a block, at most, and steps that each has in registers: their product is a segment. Of
maps in four bytes, each has half as many: shared memory is scarce on smaller GPUs."""

WARPS_AT_ONCE = 16
"""Of a multiprocessor: as many as have registers enough."""

LEAST_STEPS = 32
"""Of a lane without a gate, where the channels fill warps: of shorter ones this kernel would leave
half of its warps without work, and the other one keeps them in shared memory."""


def segment_steps(inputs: ScanInputs) -> int:
    """Of a whole segment."""
    return WARPS * _steps(inputs)


def _steps(inputs: ScanInputs) -> int:
    """Of a warp."""
    return STEPS * 2 // inputs.x.element_size()


def takes_single_states(inputs: ScanInputs) -> bool:
    """Whether this kernel is the one for a scan, of single states along one axis.

    Short lanes without a gate are left to the other kernel, unless the channels do not fill warps:
    it would be compiled for the first stage of a pyramid of 96 channels alone, whose lanes are
    hardly ever short.
    """
    groups = by_axis(inputs.directions)
    if inputs.states != 1 or len(groups) != 1:
        return False
    fills_warps = inputs.grid.channels % forward_tile(1).channels == 0
    is_short = groups[0].length(inputs.grid) <= LEAST_STEPS
    return inputs.z is not None or not (fills_warps and is_short)


class SingleBackwardScan:
    """The calls of the kernels, and the buffers that they fill.

    Args:
        grad_y: Gradient of the output, (K, B, H, W, E), or (B, H, W, E) if ``sums``.
        inputs: Arguments of the forward scan.
        sums: Whether the outputs were summed over the directions.
        multiprocessors: Of the GPU.
    """

    def __init__(
        self, grad_y: Tensor, inputs: ScanInputs, sums: bool, multiprocessors: int
    ) -> None:
        self.inputs = inputs = contiguous_maps(inputs)
        self.grad_y, self.sums, self.grid = grad_y.contiguous(), sums, inputs.grid
        self.tile = forward_tile(1)
        self.groups = -(-self.grid.channels // self.tile.channels)
        (group,) = by_axis(inputs.directions)
        length, steps = group.length(self.grid), segment_steps(inputs)
        self.warps = min(WARPS, -(-length // _steps(inputs)))
        self.blocks = max(1, WARPS_AT_ONCE // self.warps)
        units = group.lanes(self.grid) * len(group.walks)
        self.edges: SegmentEdges | None = None
        if length > steps:
            segments = Segments(-(-length // steps), steps)
            self.edges = SegmentEdges(inputs, segments, self.grad_y, sums)
            units *= segments.number
        self.rows = max(1, min(units, multiprocessors * self.blocks // self.groups))
        self.gradients = gradient_buffers(inputs, self.rows, self.groups)

    def calls(self) -> Iterator[Launch]:
        """Those that find what crosses the edges of segments, if there are any; then the scan's."""
        if self.edges is not None:
            yield from self.edges.calls()
        yield self.call()

    def call(self) -> Launch:
        """The scan's own call."""
        inputs, edges = self.inputs, self.edges
        states, gradients, lanes = None, None, make_map(self.grid, inputs.directions)
        if edges is not None:
            states, gradients, lanes = edges.states, edges.gradients, edges.map
        return Launch(
            'scan_backward_single.cu',
            self._definitions(),
            (self.rows, self.groups),
            32 * self.warps,
            2 * (self.warps * self._stage_bytes() + WARPS * 3 * 4 * self.tile.channels),
            (
                pack_scan(inputs, inputs.x, inputs.delta, states),
                *(ctypes.c_void_p(address(t)) for t in (self.grad_y, gradients)),
                Gradients.of(self.gradients),
                lanes,
            ),
        )

    def _definitions(self) -> Definitions:
        inputs, channels = self.inputs, self.grid.channels
        maps = (inputs.x, inputs.delta, self.grad_y)
        # Stages of a pyramid, which have no gate here, share a kernel: it is not told that all
        # channels fill their warps. With a gate that costs registers which it has not.
        whole = inputs.z is not None and channels % self.tile.channels == 0
        common = scan_definitions(inputs, self.tile, WARPS, WARPS_AT_ONCE // WARPS, maps, whole)
        more = dict(
            STEPS=_steps(inputs),
            GRADIENT=NUMBERS[self.grad_y.dtype],
            SHARED_Y=self.sums,
            MAP_BYTES=maps_at_once(inputs),
            GRADIENT_BYTES=copied_at_once(channels, [(self.grad_y, channels)]),
        )
        return tuple({**common, **more}.items())

    def _stage_bytes(self) -> int:
        """Size of ``Stage`` in the kernel."""
        number, steps = self.inputs.x.element_size(), _steps(self.inputs)
        gate = (1 if self.inputs.z is None else steps, number)
        staged = ((steps, number), (steps, number), (steps, self.grad_y.element_size()), gate)
        return sum(staged_bytes(tokens, self.tile.channels, size) for tokens, size in staged)
