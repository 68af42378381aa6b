"""What the convolution's backward pass adds to gradients that come through a projection."""

import ctypes

import torch
from torch import Tensor

from ..triton_backend.projection_backward import COLUMNS, Through
from .conv_arguments import ConvWalks, serves
from .launch import address

__all__ = ['Added', 'adds_through']

MOST_PARTS = 4
"""Times COLUMNS columns, that shared memory has room for."""


class ThroughArguments(ctypes.Structure):
    """``Through`` in through.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('grad', 'weight')),
        ('width', ctypes.c_int),
    ]


def adds_through(x: Tensor, x_proj: Tensor) -> bool:
    """Whether the backward pass of a convolution takes what comes through a projection.

    Args:
        x: Of the convolution.
        x_proj: (R + sides * N, E), of the projection.
    """
    halves = x.dtype in (torch.bfloat16, torch.float16)
    return halves and serves(x) and len(x_proj) <= MOST_PARTS * COLUMNS


class Added:
    """How a launch is told.

    Attributes:
        arguments: For the kernel.
        columns: Of what comes through, in multiples of COLUMNS.

    Args:
        through: As :func:`adds_through` says, or None.
    """

    def __init__(self, through: Through | None) -> None:
        self.arguments, self.columns = ThroughArguments(), 0
        if through is not None:
            self._weight = through.weight.contiguous()
            self.columns = through.grad.shape[-1] // COLUMNS
            pointers = (address(through.grad), address(self._weight))
            self.arguments = ThroughArguments(*pointers, len(through.weight))

    def shared_bytes(self, call: ConvWalks) -> int:
        """The size of ``Shared`` in through.cuh."""
        weight = 2 * call.held * self.columns * 32 * 16
        sums = 8 * (32 * call.held + max(2, call.held)) * 4
        return call.warps * (weight + sums) if self.columns else 0
