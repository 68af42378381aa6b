"""Launching the convolution kernels, for one or several directions at once."""

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from .conv_gradients import ConvGradients, Into, kernels_leave, leave_in, make_gradients
from .kernels.conv_backward import conv_backward_kernel
from .kernels.conv_forward import conv_forward_kernel
from .launch import launch
from .layout import Grid, even_parts, group_directions, token_layout

__all__ = ['convs_backward', 'convs_forward']

CHANNELS = 64
"""Channels of a program, a warp: two a thread, so that it loads 32 bits at a time."""

STEPS, STEPS_BACKWARD = 16, 9
"""Tokens whose loads a program has under way together, at most."""

LANES_PER_PROGRAM = 1
"""Lanes over which a program of the backward kernel sums gradients of parameters."""


def convs_forward(
    x: Tensor,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[str],
) -> Tensor:
    """Convolve a map in several directions, gated first if there is a gate.

    Args:
        x: (B, H, W, E), the same for all directions, or (K, B, H, W, E).
        gate: (B, H, W, E), whose SiLU multiplies ``x``, or None.
        weight: (E, taps), float32.
        bias: (E,), float32, or None.
        directions: K names of directions.

    Returns:
        (K, B, H, W, E) in the dtype of ``x``.
    """
    grid, shared = Grid.of(x), x.dim() == 4
    y = torch.empty((len(directions), *grid), dtype=x.dtype, device=x.device)
    if not y.numel():
        return y
    x, x_token = token_layout(x)
    gate, gate_token = (None, 0) if gate is None else token_layout(gate)
    for group in group_directions(directions):
        programs = group.lanes(grid) * triton.cdiv(grid.channels, CHANNELS)
        launch(
            conv_forward_kernel,
            (programs, group.directions),
            *(x, gate, weight.contiguous(), bias, y),
            *(group.length(grid), grid.width, grid.tokens, grid.channels),
            *(x_token, gate_token, group.packed, group.reverse, int(group.along_h)),
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
    directions: Sequence[str],
    into: Into | None = None,
) -> ConvGradients:
    """Gradients of :func:`convs_forward`.

    Args:
        grad_y: (K, B, H, W, E).
        x: As there, like the others.
        gate: As there.
        weight: As there.
        bias: As there.
        directions: As there.
        into: What the gradients of ``x`` and ``gate`` are left in, and returned; None for tensors
            made anew.

    Returns:
        Gradients of ``x``, ``gate``, ``weight`` and ``bias``, summed over the directions that share
        them. The last two are partial sums, still to be summed over their first axis.

    Raises:
        ValueError: If what one is left in is not like it, or there is no gradient.
    """
    if into is not None:
        apart = any(t is not None and not t.is_contiguous() for t in into[:2])
        if not kernels_leave(into, x, gate) or apart:
            return leave_in(into, convs_backward(grad_y, x, gate, weight, bias, directions))
    grid, shared, taps = Grid.of(x), x.dim() == 4, weight.shape[1]
    groups = group_directions(directions) if grad_y.numel() else []
    programs = [triton.cdiv(group.lanes(grid), LANES_PER_PROGRAM) for group in groups]
    grad_x, grad_gate = make_gradients(x, gate, into)
    grad_weight = weight.new_empty((sum(programs), grid.channels, taps))
    grad_bias = weight.new_empty((sum(programs), grid.channels))
    x, x_token = token_layout(x)
    gate, gate_token = (None, 0) if gate is None else token_layout(gate)
    weight, grad_y = weight.contiguous(), grad_y.contiguous()
    for turn, group in enumerate(groups):
        rows = slice(sum(programs[:turn]), sum(programs[: turn + 1]))
        launch(
            conv_backward_kernel,
            (programs[turn] * triton.cdiv(grid.channels, CHANNELS),),
            *(grad_y, x, gate, weight, bias, grad_x, grad_gate),
            *(grad_weight[rows], grad_bias[rows]),
            *(group.lanes(grid), LANES_PER_PROGRAM, group.length(grid), grid.width),
            *(grid.tokens, grid.channels, x_token, gate_token),
            *(group.packed, group.reverse, int(group.along_h)),
            int(turn > 0 or (into is not None and into.adds)),
            DIRECTIONS=group.directions,
            SHARED_X=shared,
            HAS_GATE=gate is not None,
            HAS_BIAS=bias is not None,
            TAPS=taps,
            STEPS=even_parts(group.length(grid) + taps - 1, STEPS_BACKWARD),
            BLOCK_E=CHANNELS,
            num_warps=1,
        )
    return grad_x, grad_gate, grad_weight, None if bias is None else grad_bias
