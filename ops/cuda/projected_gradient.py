"""The gradient from a projection that the convolution's backward pass adds to its upstream one."""

import ctypes

import torch
from torch import Tensor

from ..gpu.projections import COLUMNS, ProjectedGradient
from ..runtime.launch import address
from .conv_arguments import ConvWalks, takes_conv

__all__ = ['AddedGradient', 'adds_projected_gradient']

MOST_PARTS = 4
"""Most parts, each of COLUMNS columns, for which shared memory has room."""


class GradientArguments(ctypes.Structure):
    """The structure ``ProjectedGradient`` in projected_gradient.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('grad', 'weight')),
        *((name, ctypes.c_int) for name in ('width', 'parts', 'apart')),
    ]


def adds_projected_gradient(x: Tensor, x_proj: Tensor) -> bool:
    """Whether the backward pass of a convolution can add the gradient from a projection.

    Args:
        x: Input of the convolution.
        x_proj: (R + sides * N, E), the weight of the projection.
    """
    is_half = x.dtype in (torch.bfloat16, torch.float16)
    return is_half and takes_conv(x) and len(x_proj) <= MOST_PARTS * COLUMNS


class AddedGradient:
    """The gradient that a launch adds, in the form that the kernel takes.

    Attributes:
        arguments: Arguments of the kernel.
        columns: Most columns of the gradient, in multiples of COLUMNS.

    Args:
        projected: The gradient, or None. :func:`adds_projected_gradient` has to be True for it.
        call: The call of the convolution's kernel.
    """

    def __init__(self, projected: ProjectedGradient | None, call: ConvWalks) -> None:
        self.call, self.arguments, self.columns = call, GradientArguments(), 0
        if projected is not None:
            self._weight = projected.weight.contiguous()
            parts = projected.grad.shape[-1] // COLUMNS
            # Two stages of a pyramid, with 16 and 32 columns, share a kernel this way. Where
            # threads hold a single channel, there is another kernel anyway.
            self.columns = parts if call.held == 1 else max(2, parts)
            pointers = (address(projected.grad), address(self._weight))
            sizes = (len(projected.weight), parts, COLUMNS if parts == self.columns else 0)
            self.arguments = GradientArguments(*pointers, *sizes)

    def shared_bytes(self) -> int:
        """Bytes of ``Shared`` in projected_gradient.cuh."""
        held = self.call.held
        weight = 2 * held * self.columns * 32 * 16
        sums = 8 * (32 * held + max(2, held)) * 4
        return self.call.warps * (weight + sums) if self.columns else 0
