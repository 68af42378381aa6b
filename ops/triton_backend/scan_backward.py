"""Launching the backward kernel of the scan."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from .gate import gate_backward
from .kernels.scan_backward import scan_backward_kernel
from .launch import launch
from .layout import DirectionGroup, dot_dtype, even_parts, group_directions
from .scan import ScanInputs, scans_forward
from .segments import SegmentEdges

__all__ = ['gated_backward', 'scans_backward']

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
    """Gradients of :func:`scans_forward`.

    Args:
        grad_y: Like its result.
        inputs: Its arguments.
        sums: As there.

    Returns:
        Gradients by the names of :class:`ScanInputs`; that of ``delta`` is always
        (K, B, H, W, E), before bias and softplus, in the dtype of ``x``. All but those of ``x`` and
        ``delta`` and ``z`` are partial sums in float32, still to be summed over their first axis.
    """
    if inputs.z is not None:
        return gated_backward(grad_y, inputs, scans_forward, scans_backward)
    groups = group_directions(inputs.directions) if grad_y.numel() else []
    edges = SegmentEdges.of(grad_y, inputs, sums)
    lanes = [group.lanes(inputs.grid) * edges.number for group in groups]
    buffers = _BackwardBuffers.make(inputs, lanes)
    grad_y = grad_y.contiguous()
    for turn, group in enumerate(groups):
        _launch_backward(grad_y, inputs, sums, buffers, group, turn, edges)
    gradients = {**buffers.maps, **buffers.partial}
    if inputs.log_A and gradients['A'] is not None:
        gradients['A'] = gradients['A'] * inputs.rates()  # the derivative of A by its logarithm
    return gradients


def gated_backward(
    grad_y: Tensor,
    inputs: ScanInputs,
    forward: Callable[..., Tensor],
    backward: Callable[..., dict[str, Tensor | None]],
) -> dict[str, Tensor | None]:
    """:func:`scans_backward` of a scan with a gate, by both passes of the one without."""
    assert inputs.z is not None
    ungated = inputs.through(None)
    y = forward(ungated, dtype=torch.float32)[0]
    of_y, of_z, _ = gate_backward(grad_y[0], y, inputs.z)
    return {**backward(of_y[None], ungated), 'z': of_z}


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

    def of_group(self, name: str, turn: int) -> Tensor | None:
        """The rows that a launch writes; all of a projection's, which has no rows of its own."""
        value = self.partial[name]
        if value is None or value.dim() > 3:
            return value
        return value[self.rows[turn] : self.rows[turn + 1]]


def _launch_backward(
    grad_y: Tensor,
    inputs: ScanInputs,
    sums: bool,
    buffers: _BackwardBuffers,
    group: DirectionGroup,
    turn: int,
    edges: SegmentEdges,
) -> None:
    grid, dtype = inputs.grid, inputs.x.dtype
    programs = triton.cdiv(grid.channels, CHANNELS) * (buffers.rows[turn + 1] - buffers.rows[turn])
    length = group.length(grid)
    steps = edges.steps or length
    chunk = even_parts(steps, MOST_STEPS)
    chunks = triton.cdiv(steps, chunk)
    options = inputs.options()
    states = options['STATES']
    carried = (programs, chunks, CHANNELS, states) if chunks > 1 else (1,)
    fast = dtype != torch.float32 and states >= GROUP
    launch(
        scan_backward_kernel,
        (programs,),
        grad_y,
        *inputs.tensors(),
        *(edges.states, edges.gradients),
        grad_y.new_empty(carried, dtype=torch.float32),
        buffers.maps['x'],
        buffers.maps['delta'],
        *(buffers.of_group(name, turn) for name in ('A', 'B', 'C', 'D', 'delta_bias')),
        group.lanes(grid) * edges.number,
        LANES_PER_PROGRAM,
        length,
        grid.width,
        grid.tokens,
        len(inputs.directions),
        grid.channels,
        inputs.states,
        *inputs.distances(),
        group.packed,
        group.reverse,
        int(group.along_h),
        *(edges.number, steps),
        DIRECTIONS=group.directions,
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
