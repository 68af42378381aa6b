"""Launches of the forward scan."""

import torch
import triton
from torch import Tensor

from ..gpu.maps import by_axis, even_parts
from ..gpu.scan_inputs import ScanInputs, make_output
from .kernels.scan_forward import scan_forward_kernel
from .launch import launch
from .scan_arguments import scan_distances, scan_options, scan_tensors
from .segments import plan_segments, segment_states
from .walks import pack_walks

__all__ = ['scans_forward']

CHANNELS = 64
"""Channels of a program, which is a warp. The two of each thread share its loads of B and C."""

STRETCH = 8
"""Most tokens that a program loads at the same time."""


def scans_forward(
    inputs: ScanInputs,
    sums: bool = False,
    dtype: torch.dtype | None = None,
    add_to: Tensor | None = None,
) -> Tensor:
    """See :meth:`.kernels.Kernels.scans_forward`. Gates are not supported."""
    if inputs.z is not None:
        return NotImplemented
    grid, directions = inputs.grid, inputs.directions
    y = make_output(inputs.x, len(inputs.directions), sums, dtype, add_to)
    if not y.numel():
        return y
    segments = plan_segments(inputs)
    start = None if segments is None else segment_states(inputs, segments)
    for i, group in enumerate(by_axis(directions)):
        number, steps = segments or (1, group.length(grid))
        programs = group.lanes(grid) * number * triton.cdiv(grid.channels, CHANNELS)
        launch(
            scan_forward_kernel,
            (programs, 1 if sums else len(group.walks)),
            *scan_tensors(inputs),
            start,
            y,
            group.length(grid),
            grid.width,
            grid.tokens,
            grid.channels,
            inputs.states,
            *scan_distances(inputs),
            *pack_walks(group),
            int(i > 0 or add_to is not None),
            number,
            steps,
            DIRECTIONS=len(group.walks),
            SUMS=sums,
            **scan_options(inputs),
            STRETCH=even_parts(steps, STRETCH),
            BLOCK_E=CHANNELS,
            num_warps=1,
        )
    return y
