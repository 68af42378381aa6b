"""What the convolution's backward pass adds: the gradient of its output from a projection."""

import ctypes

import torch
from torch import Tensor

from ..gpu.projections import COLUMNS, ProjectedGradient
from ..runtime.launch import address
from .conv_arguments import ConvWalks, takes_conv

__all__ = ['AddedGradient', 'adds_projected_gradient']

MOST_PARTS = 4
"""Times COLUMNS columns, that shared memory has room for."""


class GradientArguments(ctypes.Structure):
    """``ProjectedGradient`` in projected_gradient.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('grad', 'weight')),
        *((name, ctypes.c_int) for name in ('width', 'parts', 'apart')),
    ]


def adds_projected_gradient(x: Tensor, x_proj: Tensor) -> bool:
    """Whether the backward pass of a convolution adds what comes from a projection.

    Args:
        x: Of the convolution.
        x_proj: (R + sides * N, E), of the projection.
    """
    is_half = x.dtype in (torch.bfloat16, torch.float16)
    return is_half and takes_conv(x) and len(x_proj) <= MOST_PARTS * COLUMNS


class AddedGradient:
    """The gradient that a launch adds, as the kernel takes it.

    Attributes:
        arguments: For the kernel.
        columns: Of the gradient, at most, in multiples of COLUMNS.

    Args:
        projected: The gradient, if :func:`adds_projected_gradient`; or None.
        call: Of the convolution's kernel.
    """

    def __init__(self, projected: ProjectedGradient | None, call: ConvWalks) -> None:
        self.call, self.arguments, self.columns = call, GradientArguments(), 0
        if projected is not None:
            self._weight = projected.weight.contiguous()
            parts = projected.grad.shape[-1] // COLUMNS
            # One kernel has 16 and 32 columns, for two stages of a pyramid. Where threads hold a
            # single channel, it is another one anyway.
            self.columns = parts if call.held == 1 else max(2, parts)
            pointers = (address(projected.grad), address(self._weight))
            sizes = (len(projected.weight), parts, COLUMNS if parts == self.columns else 0)
            self.arguments = GradientArguments(*pointers, *sizes)

    def shared_bytes(self) -> int:
        """The size of ``Shared`` in projected_gradient.cuh."""
        held = self.call.held
        weight = 2 * held * self.columns * 32 * 16
        sums = 8 * (32 * held + max(2, held)) * 4
        return self.call.warps * (weight + sums) if self.columns else 0
