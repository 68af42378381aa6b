"""Launches of the gate kernels: a map times the SiLU of another map."""

import torch
import triton
from torch import Tensor

from ..gpu.maps import Grid, check_target, token_layout
from .kernels.gate import gate_backward_kernel, gate_forward_kernel
from .launch import launch

__all__ = ['gate_backward', 'gate_forward']

BLOCK_TOKENS, BLOCK_CHANNELS = 8, 128


def gate_forward(x: Tensor, z: Tensor) -> Tensor:
    """Compute ``x * silu(z)`` in the dtype of ``z`` for two (B, H, W, E) maps."""
    grid = Grid.of(x)
    y = torch.empty(tuple(grid), dtype=z.dtype, device=z.device)
    if y.numel():
        (x, x_token), (z, z_token) = token_layout(x), token_layout(z)
        launch(
            gate_forward_kernel,
            _tiles(grid),
            *(x, z, y, grid.tokens, grid.channels, x_token, z_token),
            BLOCK_T=BLOCK_TOKENS,
            BLOCK_E=BLOCK_CHANNELS,
        )
    return y


def gate_backward(
    grad_y: Tensor, x: Tensor, z: Tensor, target: Tensor | None = None, again: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Compute the gradients of the gate, and optionally its result again.

    Args:
        grad_y: Gradient of the result of :func:`gate_forward`.
        x: (B, H, W, E).
        z: Like ``x``.
        target: A map like ``z``, with tokens at equal distances, to which the gradient of ``z`` is
            written.
        again: Whether to return the result of :func:`gate_forward` too.

    Returns:
        The gradient of ``x`` in its dtype; the gradient of ``z`` in its dtype, or None if there is
        a ``target``; and the result again, or None.

    Raises:
        ValueError: If ``target`` is not like ``z``.
    """
    grid = Grid.of(x)
    check_target(target, z.shape, z.dtype)
    grad_x = torch.empty(tuple(grid), dtype=x.dtype, device=x.device)
    grad_z = torch.empty(tuple(grid), dtype=z.dtype, device=z.device) if target is None else target
    y = torch.empty(tuple(grid), dtype=z.dtype, device=z.device) if again else None
    if grad_x.numel():
        (x, x_token), (z, z_token) = token_layout(x), token_layout(z)
        launch(
            gate_backward_kernel,
            _tiles(grid),
            *(grad_y.contiguous(), x, z, grad_x, grad_z, y),
            *(grid.tokens, grid.channels, x_token, z_token, token_layout(grad_z)[1]),
            BLOCK_T=BLOCK_TOKENS,
            BLOCK_E=BLOCK_CHANNELS,
        )
    return grad_x, grad_z if target is None else None, y


def _tiles(grid: Grid) -> tuple[int, int]:
    return triton.cdiv(grid.tokens, BLOCK_TOKENS), triton.cdiv(grid.channels, BLOCK_CHANNELS)
