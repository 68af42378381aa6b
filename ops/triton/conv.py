"""Launches of the convolution kernels, for one or several directions at once."""

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from ..directions import Direction
from ..gpu.conv_targets import NEW, ConvGradients, ConvTargets
from ..gpu.maps import Grid, by_axis, even_parts, token_layout, without_gaps
from .kernels.conv_backward import conv_backward_kernel
from .kernels.conv_forward import conv_forward_kernel
from .launch import launch
from .walks import pack_walks

__all__ = ['adds_projected_gradient', 'convs_backward', 'convs_forward']

CHANNELS = 64
"""Channels of a program, which is a warp. Each thread has two, so it loads 32 bits at a time."""

STEPS, STEPS_BACKWARD = 16, 9
"""Most tokens that a program of the forward and of the backward kernel loads at the same time."""

LANES_PER_PROGRAM = 1
"""Lanes over which a program of the backward kernel sums gradients of parameters."""


def convs_forward(
    x: Tensor,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[Direction],
) -> Tensor:
    """Convolve a map in several directions, after multiplication by a gate if there is one.

    Args:
        x: (B, H, W, E), the same for all directions, or (K, B, H, W, E).
        gate: (B, H, W, E), whose SiLU multiplies ``x``, or None.
        weight: (E, taps), float32.
        bias: (E,), float32, or None.
        directions: K directions.

    Returns:
        (K, B, H, W, E) in the dtype of ``x``.
    """
    grid, shared = Grid.of(x), x.dim() == 4
    y = torch.empty((len(directions), *grid), dtype=x.dtype, device=x.device)
    if not y.numel():
        return y
    weight, bias = without_gaps(weight, bias)
    x, x_token = token_layout(x)
    gate, gate_token = (None, 0) if gate is None else token_layout(gate)
    for group in by_axis(directions):
        programs = group.lanes(grid) * triton.cdiv(grid.channels, CHANNELS)
        launch(
            conv_forward_kernel,
            (programs, len(group.walks)),
            *(x, gate, weight, bias, y),
            *(group.length(grid), grid.width, grid.tokens, grid.channels),
            *(x_token, gate_token, *pack_walks(group)),
            SHARED_X=shared,
            HAS_GATE=gate is not None,
            HAS_BIAS=bias is not None,
            TAPS=weight.shape[1],
            STEPS=even_parts(group.length(grid), STEPS),
            BLOCK_E=CHANNELS,
            num_warps=1,
        )
    return y


def convs_backward(
    grad_y: Tensor,
    x: Tensor,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[Direction],
    targets: ConvTargets = NEW,
) -> ConvGradients:
    """Compute gradients of :func:`convs_forward`; see :meth:`.kernels.Kernels.convs_backward`.

    The kernel does not support targets with gaps between their tokens.
    """
    if any(t is not None and not t.is_contiguous() for t in targets[:2]):
        return NotImplemented
    grid, shared, taps = Grid.of(x), x.dim() == 4, weight.shape[1]
    groups = by_axis(directions) if grad_y.numel() else []
    programs = [triton.cdiv(group.lanes(grid), LANES_PER_PROGRAM) for group in groups]
    grad_x, grad_gate = targets.allocate(x, gate)
    grad_weight = weight.new_empty((sum(programs), grid.channels, taps))
    grad_bias = weight.new_empty((sum(programs), grid.channels))
    x, x_token = token_layout(x)
    gate, gate_token = (None, 0) if gate is None else token_layout(gate)
    weight, bias, grad_y = without_gaps(weight, bias, grad_y)
    first = 0
    for group, number in zip(groups, programs, strict=True):
        rows = slice(first, first + number)
        launch(
            conv_backward_kernel,
            (number * triton.cdiv(grid.channels, CHANNELS),),
            *(grad_y, x, gate, weight, bias, grad_x, grad_gate),
            *(grad_weight[rows], grad_bias[rows]),
            *(group.lanes(grid), LANES_PER_PROGRAM, group.length(grid), grid.width),
            *(grid.tokens, grid.channels, x_token, gate_token),
            *pack_walks(group),
            int(first > 0 or targets.adds),
            DIRECTIONS=len(group.walks),
            SHARED_X=shared,
            HAS_GATE=gate is not None,
            HAS_BIAS=bias is not None,
            TAPS=taps,
            STEPS=even_parts(group.length(grid) + taps - 1, STEPS_BACKWARD),
            BLOCK_E=CHANNELS,
            num_warps=1,
        )
        first += number
    return grad_x, grad_gate, grad_weight, None if bias is None else grad_bias


def adds_projected_gradient(x: Tensor, x_proj: Tensor) -> bool:
    """Return False: the backward kernel does not add the gradient from a projection."""
    return False
