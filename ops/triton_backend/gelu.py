"""Launching the GELU kernels."""

import torch
import triton
from torch import Tensor

from .kernels.gelu import gelu_backward_kernel, gelu_forward_kernel
from .launch import launch

__all__ = ['gelu_backward', 'gelu_forward']

BLOCK = 1024
"""Numbers of a program: in half precision, one load of 16 bytes a thread."""


def gelu_forward(x: Tensor) -> Tensor:
    """``GELU(x)``; of any shape."""
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        launch(gelu_forward_kernel, _programs(x), x, y, x.numel(), BLOCK=BLOCK, num_warps=4)
    return y


def gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """``GELU(x)`` again, while the gradient of ``x`` takes the place of its own.

    Args:
        grad: Gradient of ``GELU(x)``, contiguous; is overwritten with that of ``x``.
        x: Of the same shape.
    """
    x = x.contiguous()
    y = torch.empty_like(x)
    if x.numel():
        launch(gelu_backward_kernel, _programs(x), grad, x, y, x.numel(), BLOCK=BLOCK, num_warps=4)
    return y


def _programs(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), BLOCK),)
