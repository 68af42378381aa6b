"""Segments of long lanes for Triton's kernels, and the states that cross their edges."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..gpu.maps import by_axis
from ..gpu.scan_inputs import ScanInputs
from ..gpu.segments import Segments
from .kernels.scan_segments import chain_segments_kernel, sum_segments_kernel
from .launch import launch
from .walks import pack_walks

__all__ = ['SegmentEdges', 'plan_segments', 'segment_states']

CHANNELS = 64
"""Channels of a program, which is a warp."""

STRETCH = 8
"""Tokens, or segments, that a program loads at the same time."""

ENOUGH_WARPS = 2048
"""Warps that keep a large GPU busy, 16 for each of about 130 multiprocessors."""

LEAST_STEPS = 128
"""Fewest tokens of a segment. Shorter segments are not worth the extra pass."""


def plan_segments(inputs: ScanInputs) -> Segments | None:
    """Choose the segments of a scan's lanes, or return None if it is better to leave them whole."""
    groups = by_axis(inputs.directions)
    if len(groups) != 1 or not inputs.x.numel():
        return None
    (group,), grid = groups, inputs.grid
    warps = group.lanes(grid) * len(group.walks) * triton.cdiv(grid.channels, CHANNELS)
    length = group.length(grid)
    number = min(triton.cdiv(ENOUGH_WARPS, warps), length // LEAST_STEPS)
    if number < 2:
        return None
    steps = triton.cdiv(length, number)
    return Segments(triton.cdiv(length, steps), steps)


def segment_states(inputs: ScanInputs, segments: Segments) -> Tensor:
    """Compute the state that enters each segment.

    Returns:
        (K, lanes * segments, E, N rounded up to a power of two), float32.
    """
    side = (inputs.B, inputs.B_token, inputs.B_kind)
    return _edges(inputs, segments, (inputs.x, inputs.x_token, False), side, adjoint=False)


class SegmentEdges(NamedTuple):
    """States and gradients at the edges of segments, for a backward pass.

    Attributes:
        number: Segments of a lane; 1 if lanes are left whole.
        steps: Tokens of a segment; 0 if lanes are left whole.
        states: The result of :func:`segment_states`; None if lanes are left whole.
        gradients: Gradients of the states that leave each segment, like ``states``.
    """

    number: int = 1
    steps: int = 0
    states: Tensor | None = None
    gradients: Tensor | None = None

    @classmethod
    def of(cls, grad_y: Tensor, inputs: ScanInputs, shared: bool) -> 'SegmentEdges':
        """Compute the edges, if lanes are cut at all.

        Args:
            grad_y: (K, B, H, W, E), or (B, H, W, E) if ``shared``.
            inputs: Inputs of the scan.
            shared: Whether all directions have the same output gradient.
        """
        segments = plan_segments(inputs)
        if segments is None:
            return cls()
        side = (inputs.C, inputs.C_token, inputs.C_kind)
        values = (grad_y.contiguous(), inputs.grid.channels, shared)
        gradients = _edges(inputs, segments, values, side, adjoint=True)
        return cls(*segments, segment_states(inputs, segments), gradients)


def _edges(
    inputs: ScanInputs,
    segments: Segments,
    values: tuple[Tensor, int, bool],
    side: tuple[Tensor | None, int, str],
    adjoint: bool,
) -> Tensor:
    (group,), grid = by_axis(inputs.directions), inputs.grid
    lanes, padded = group.lanes(grid) * segments.number, triton.next_power_of_2(inputs.states)
    shape = (len(inputs.directions), lanes, grid.channels)
    edges = torch.empty((*shape, padded), dtype=torch.float32, device=inputs.x.device)
    totals = torch.empty(shape, dtype=torch.float32, device=inputs.x.device)
    blocks = triton.cdiv(grid.channels, CHANNELS)
    options = dict(
        ADJOINT=adjoint,
        LOG_A=inputs.log_A,
        STATES=padded,
        STRETCH=STRETCH // max(1, padded // 4),
        BLOCK_E=CHANNELS,
    )
    (first, first_token, shared), (second, second_token, kind) = values, side
    launch(
        sum_segments_kernel,
        (blocks * lanes, len(group.walks)),
        *(first, inputs.delta, inputs.delta_bias, inputs.A, second, edges, totals),
        *(group.length(grid), grid.width, grid.tokens, grid.channels, inputs.states),
        *(first_token, inputs.delta_token, second_token),
        *(*pack_walks(group), *segments),
        SHARED=shared,
        SIDE_KIND=kind,
        HAS_BIAS=inputs.delta_bias is not None,
        SOFTPLUS=inputs.softplus,
        **options,
        num_warps=1,
    )
    launch(
        chain_segments_kernel,
        (blocks * group.lanes(grid), len(group.walks)),
        *(edges, totals, inputs.A, grid.channels, inputs.states),
        *(*pack_walks(group)[:2], segments.number),
        **options,
        num_warps=1,
    )
    return edges
