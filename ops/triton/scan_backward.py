"""Launches of the backward kernel of the scan."""

import torch
import triton
from torch import Tensor

from ..gpu.maps import AxisWalks, by_axis, even_parts
from ..gpu.scan_inputs import ScanInputs, gradient_buffers
from .kernels.scan_backward import scan_backward_kernel
from .launch import launch
from .scan_arguments import scan_distances, scan_options, scan_tensors
from .segments import SegmentEdges
from .walks import dot_dtype, pack_walks

__all__ = ['scans_backward']

CHANNELS = 32
"""Channels of a program, one for each thread."""

GROUP = 4
"""States whose history a program holds at a time."""

MOST_STEPS = 16
"""Most steps whose history a program holds."""

LANES_PER_PROGRAM = 2
"""Lanes over which a program sums gradients of parameters."""


def scans_backward(
    grad_y: Tensor, inputs: ScanInputs, sums: bool = False
) -> dict[str, Tensor | None]:
    """See :meth:`.kernels.Kernels.scans_backward`. Gates are not supported."""
    if inputs.z is not None:
        return NotImplemented
    groups = by_axis(inputs.directions) if grad_y.numel() else []
    edges = SegmentEdges.of(grad_y, inputs, sums)
    programs = [
        triton.cdiv(group.lanes(inputs.grid) * edges.number, LANES_PER_PROGRAM) for group in groups
    ]
    blocks = triton.cdiv(inputs.grid.channels, CHANNELS)
    gradients = gradient_buffers(inputs, sum(programs), blocks)
    grad_y, first = grad_y.contiguous(), 0
    for group, number in zip(groups, programs, strict=True):
        rows = slice(first, first + number)
        _launch_backward(grad_y, inputs, sums, gradients, group, rows, edges)
        first += number
    if inputs.log_A and gradients['A'] is not None:
        gradients['A'] = gradients['A'] * inputs.rates()  # the derivative of A by its logarithm
    return gradients


def _launch_backward(
    grad_y: Tensor,
    inputs: ScanInputs,
    sums: bool,
    gradients: dict[str, Tensor | None],
    group: AxisWalks,
    rows: slice,
    edges: SegmentEdges,
) -> None:
    """Launch the kernel for directions along one axis, whose partial sums are ``rows`` of all."""

    def own(name: str) -> Tensor | None:
        value = gradients[name]
        return value if value is None or value.dim() > 3 else value[rows]  # B and C have tokens

    grid, dtype = inputs.grid, inputs.x.dtype
    programs = triton.cdiv(grid.channels, CHANNELS) * (rows.stop - rows.start)
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
        *(gradients['x'], gradients['delta']),
        *(own(name) for name in ('A', 'B', 'C', 'D', 'delta_bias')),
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
        num_stages=1,  # a copy in shared memory would gain nothing
    )
