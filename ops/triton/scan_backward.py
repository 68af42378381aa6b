"""Launching the backward kernel of the scan."""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from ..gpu.maps import AxisWalks, by_axis, even_parts
from ..gpu.scan_inputs import ScanInputs
from .kernels.scan_backward import scan_backward_kernel
from .launch import launch
from .scan_arguments import scan_distances, scan_options, scan_tensors
from .segments import SegmentEdges
from .walks import dot_dtype, pack_walks

__all__ = ['scans_backward']

CHANNELS = 32
"""Channels of a program: one a thread."""

GROUP = 4
"""States of which a program holds the history at a time."""

MOST_STEPS = 16
"""Steps whose history a program holds."""

LANES_PER_PROGRAM = 2
"""Lanes over which a program sums gradients of parameters."""


def scans_backward(
    grad_y: Tensor, inputs: ScanInputs, sums: bool = False
) -> dict[str, Tensor | None]:
    """Gradients of the scans; see :meth:`.kernels.Kernels.scans_backward`. There is no gate."""
    if inputs.z is not None:
        return NotImplemented
    groups = by_axis(inputs.directions) if grad_y.numel() else []
    edges = SegmentEdges.of(grad_y, inputs, sums)
    lanes = [group.lanes(inputs.grid) * edges.number for group in groups]
    buffers = _BackwardBuffers.make(inputs, lanes)
    grad_y = grad_y.contiguous()
    for i, group in enumerate(groups):
        _launch_backward(grad_y, inputs, sums, buffers, group, i, edges)
    gradients = {**buffers.maps, **buffers.partial}
    if inputs.log_A and gradients['A'] is not None:
        gradients['A'] = gradients['A'] * inputs.rates()  # the derivative of A by its logarithm
    return gradients


@dataclass
class _BackwardBuffers:
    """What the backward kernel writes: maps, and partial sums of the parameters' gradients.

    Attributes:
        maps: Gradients of x and delta.
        partial: Partial sums over their first axis: A, D and delta_bias with a row for each
            program along the lanes; B and C likewise if constant, with a row for each block of
            channels if not.
        rows: Where each group of directions begins among the rows.
    """

    maps: dict[str, Tensor]
    partial: dict[str, Tensor | None]
    rows: list[int]

    @classmethod
    def make(cls, inputs: ScanInputs, lanes: list[int]) -> '_BackwardBuffers':
        grid, x = inputs.grid, inputs.x
        rows = [0]
        for n in lanes:
            rows.append(rows[-1] + triton.cdiv(n, LANES_PER_PROGRAM))
        count, blocks = len(inputs.directions), triton.cdiv(grid.channels, CHANNELS)

        def empty(*shape: int, dtype: torch.dtype = inputs.A.dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=x.device)

        matrix = (rows[-1], grid.channels, inputs.states)
        token = (blocks, count, *grid[:3], inputs.states)
        partial: dict[str, Tensor | None] = dict(A=empty(*matrix))
        for name, kind in (('B', inputs.B_kind), ('C', inputs.C_kind)):
            shape = token if kind == 'token' else matrix
            partial[name] = None if kind == 'one' else empty(*shape)
        for name in ('D', 'delta_bias'):
            absent = getattr(inputs, name) is None
            partial[name] = None if absent else empty(rows[-1], grid.channels)
        maps = dict(
            x=empty(count, *grid, dtype=x.dtype),
            delta=empty(count, *grid, dtype=x.dtype),
        )
        return cls(maps, partial, rows)

    def of_group(self, name: str, i: int) -> Tensor | None:
        """The rows that a launch writes; all of a projection's, which has no rows of its own."""
        value = self.partial[name]
        if value is None or value.dim() > 3:
            return value
        return value[self.rows[i] : self.rows[i + 1]]


def _launch_backward(
    grad_y: Tensor,
    inputs: ScanInputs,
    sums: bool,
    buffers: _BackwardBuffers,
    group: AxisWalks,
    i: int,
    edges: SegmentEdges,
) -> None:
    grid, dtype = inputs.grid, inputs.x.dtype
    programs = triton.cdiv(grid.channels, CHANNELS) * (buffers.rows[i + 1] - buffers.rows[i])
    length = group.length(grid)
    steps = edges.steps or length
    chunk = even_parts(steps, MOST_STEPS)
    chunks = triton.cdiv(steps, chunk)
    options = scan_options(inputs)
    states = options['STATES']
    carried = (programs, chunks, CHANNELS, states) if chunks > 1 else (1,)
    fast = dtype != torch.float32 and states >= GROUP
    launch(
        scan_backward_kernel,
        (programs,),
        grad_y,
        *scan_tensors(inputs),
        *(edges.states, edges.gradients),
        grad_y.new_empty(carried, dtype=torch.float32),
        buffers.maps['x'],
        buffers.maps['delta'],
        *(buffers.of_group(name, i) for name in ('A', 'B', 'C', 'D', 'delta_bias')),
        group.lanes(grid) * edges.number,
        LANES_PER_PROGRAM,
        length,
        grid.width,
        grid.tokens,
        len(inputs.directions),
        grid.channels,
        inputs.states,
        *scan_distances(inputs),
        *pack_walks(group),
        *(edges.number, steps),
        DIRECTIONS=len(group.walks),
        SHARED_Y=sums,
        **options,
        GROUP=min(GROUP, states),
        CHUNK=chunk,
        EVEN=steps % chunk == 0 and length % steps == 0,
        BLOCK_E=CHANNELS,
        FAST_SUMS=fast,
        DOT_DTYPE=dot_dtype(torch.bfloat16) if fast else dot_dtype(torch.float32),
        num_warps=1,
        num_stages=1,  # there is nothing to gain from a copy in shared memory
    )
