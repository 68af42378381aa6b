"""Launching the convolution kernels, for one or several directions at once."""

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from ..directions import get_direction
from .kernels.conv_backward import conv_backward_kernel
from .kernels.conv_forward import conv_forward_kernel
from .layout import Grid, group_directions, reverse_bits, token_layout

__all__ = ['conv_backward', 'conv_forward', 'convs_backward', 'convs_forward']

BLOCK_TOKENS = 64
"""Tokens of a program of the forward kernel."""

BACKWARD_CHANNELS = 64
"""Channels of a program of the backward kernel."""

LANES_PER_PROGRAM = 1
"""Lanes over which a program of the backward kernel sums parameter gradients in registers."""


def convs_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, directions: Sequence[str]
) -> Tensor:
    """Convolve a map in several directions.

    Args:
        x: (B, H, W, E), the same for all directions, or (K, B, H, W, E).
        weight: (E, taps), float32.
        bias: (E,), float32, or None.
        directions: K names of directions.

    Returns:
        (K, B, H, W, E) in the dtype of ``x``.
    """
    grid, count, shared = Grid.of(x), len(directions), x.dim() == 4
    y = torch.empty((count, *grid), dtype=x.dtype, device=x.device)
    if not y.numel():
        return y
    x, x_token = token_layout(x)
    block_e = min(64, triton.next_power_of_2(grid.channels))
    tiles = triton.cdiv(grid.tokens, BLOCK_TOKENS) * triton.cdiv(grid.channels, block_e)
    conv_forward_kernel[(tiles, count)](
        x,
        weight.contiguous(),
        bias,
        y,
        grid.tokens,
        grid.height,
        grid.width,
        grid.channels,
        x_token,
        sum((get_direction(name).axis == 1) << k for k, name in enumerate(directions)),
        reverse_bits(directions),
        SHARED_X=shared,
        HAS_BIAS=bias is not None,
        TAPS=weight.shape[1],
        BLOCK_T=BLOCK_TOKENS,
        BLOCK_E=block_e,
        num_warps=4,
    )
    return y


def convs_backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[str],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of the convolutions in several directions.

    Args:
        grad_y: (K, B, H, W, E).
        x: As in :func:`convs_forward`.
        weight: As in :func:`convs_forward`.
        bias: As in :func:`convs_forward`.
        directions: K names of directions.

    Returns:
        Gradients of ``x`` (summed over the directions if they share it), ``weight`` and ``bias``.
    """
    grid, shared = Grid.of(x), x.dim() == 4
    taps = weight.shape[1]
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not grad_y.numel():
        no_bias = None if bias is None else torch.zeros_like(bias)
        return grad_x.zero_(), torch.zeros_like(weight), no_bias
    x, x_token = token_layout(x)
    weight, grad_y = weight.contiguous(), grad_y.contiguous()
    block_e = min(BACKWARD_CHANNELS, triton.next_power_of_2(grid.channels))
    weight_sums, bias_sums = [], []
    for turn, group in enumerate(group_directions(directions)):
        programs = triton.cdiv(group.lanes(grid), LANES_PER_PROGRAM)
        grad_weight = weight.new_empty((programs, grid.channels, taps))
        grad_bias = weight.new_empty((programs, grid.channels))
        conv_backward_kernel[(programs * triton.cdiv(grid.channels, block_e),)](
            grad_y,
            x,
            weight,
            bias,
            grad_x,
            grad_weight,
            grad_bias,
            group.lanes(grid),
            LANES_PER_PROGRAM,
            group.length(grid),
            grid.width,
            grid.tokens,
            grid.channels,
            x_token,
            group.packed,
            group.reverse,
            ALONG_H=group.along_h,
            DIRECTIONS=len(group.members),
            SHARED_X=shared,
            ADDS=turn > 0,
            HAS_BIAS=bias is not None,
            TAPS=taps,
            BLOCK_E=block_e,
            num_warps=1,
        )
        weight_sums.append(grad_weight.sum(0))
        bias_sums.append(grad_bias.sum(0))
    grad_weight = torch.stack(weight_sums).sum(0)
    return grad_x, grad_weight, None if bias is None else torch.stack(bias_sums).sum(0)


def conv_forward(x: Tensor, weight: Tensor, bias: Tensor | None, direction: str) -> Tensor:
    """See :func:`mmv2m.ops.directional_conv`."""
    return convs_forward(x, weight, bias, [direction])[0]


def conv_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, direction: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients for ``x, weight, bias``."""
    return convs_backward(grad_y[None], x, weight, bias, [direction])
