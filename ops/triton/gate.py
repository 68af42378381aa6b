"""Launching the gate kernels: a map times the SiLU of another."""

import torch
import triton
from torch import Tensor

from ..gpu.maps import Grid, check_target, token_layout
from .kernels.gate import gate_backward_kernel, gate_forward_kernel
from .launch import launch

__all__ = ['gate_backward', 'gate_forward']

BLOCK_TOKENS, BLOCK_CHANNELS = 8, 128


def gate_forward(x: Tensor, z: Tensor) -> Tensor:
    """``x * silu(z)`` in the dtype of ``z``; both (B, H, W, E)."""
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
    """Gradients of ``x`` and ``z``, in their dtypes; and what :func:`gate_forward` returns.

    Args:
        grad_y: Gradient of that.
        x: (B, H, W, E).
        z: Like ``x``.
        target: Like ``z``, and with tokens equally far apart: gets the gradient of ``z``, which is
            None then.
        again: Whether the third is wanted; it is None otherwise.

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
