"""Convolution, projections and scan of several directions as one operator on the Triton kernels.

What stays between forward and backward is the operator's inputs; the convolution and the
projections are computed again, which costs passes over the map and saves keeping three.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .kernel_set import TRITON, KernelSet
from .projection import project
from .scan import ScanInputs

__all__ = ['ssm_backward', 'ssm_forward']


class SSMTensors(NamedTuple):
    """The tensors among the arguments of :func:`mmv2m.ops.directional_ssm`."""

    x: Tensor
    gate: Tensor | None
    conv_weight: Tensor
    conv_bias: Tensor | None
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor

    def conv(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """What the convolution reads."""
        return self.x, self.gate, self.conv_weight, self.conv_bias


def ssm_forward(
    tensors: Sequence[Any],
    directions: Sequence[str],
    projects: str,
    reduction: str,
    kernels: KernelSet = TRITON,
) -> Tensor:
    """See :func:`mmv2m.ops.directional_ssm`; ``tensors`` are those of :class:`SSMTensors`."""
    inputs, _ = _scan_inputs(SSMTensors(*tensors), directions, projects, kernels)
    return kernels.scans_forward(inputs, sums=reduction == 'sum')


def ssm_backward(
    grad_y: Tensor,
    tensors: Sequence[Any],
    directions: Sequence[str],
    projects: str,
    reduction: str,
    kernels: KernelSet = TRITON,
) -> tuple[Tensor | None, ...]:
    """Gradients of the nine tensors."""
    given = SSMTensors(*tensors)
    inputs, low_rank = _scan_inputs(given, directions, projects, kernels)
    grads = kernels.scans_backward(grad_y, inputs, sums=reduction == 'sum')
    with torch.autocast(grad_y.device.type, enabled=False):
        grad_conv, grad_x_proj, grad_dt_proj = _projections_backward(
            grads, inputs.x, low_rank, given.x_proj, given.dt_proj
        )
    return (
        *kernels.convs_backward(grad_conv, *given.conv(), directions),
        *(grad_x_proj, grad_dt_proj, grads['delta_bias'], grads['A'], grads['D']),
    )


def _scan_inputs(
    given: SSMTensors, directions: Sequence[str], projects: str, kernels: KernelSet
) -> tuple[ScanInputs, Tensor]:
    """What the scan reads, and the low-rank time step, (K, B, H, W, R) in the dtype of ``x``."""
    convolved = kernels.convs_forward(*given.conv(), directions)
    low_rank, delta, sides = project(
        convolved, given.x_proj, given.dt_proj, given.dt_bias, given.A.shape[1]
    )
    B = None if projects == 'output' else sides[0]
    C = None if projects == 'input' else sides[-1]
    inputs = ScanInputs(
        *(convolved, delta, given.A, B, C, given.D, given.dt_bias, 'applied', directions)
    )
    return inputs, low_rank


def _projections_backward(
    grads: dict[str, Tensor | None], convolved: Tensor, dt: Tensor, x_proj: Tensor, dt_proj: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the convolved map (what the scan gave, and more), ``x_proj`` and ``dt_proj``."""
    dtype = convolved.dtype
    grad_conv, grad_delta = grads['x'], grads['delta']
    assert grad_conv is not None and grad_delta is not None
    grad_delta = grad_delta.flatten(0, -2)
    grad_dt = grad_delta @ dt_proj.to(dtype)
    sides = [g.flatten(0, -2).to(dtype) for g in (grads['B'], grads['C']) if g is not None]
    grad_projected = torch.cat((grad_dt, *sides), -1)
    grad_conv.flatten(0, -2).addmm_(grad_projected, x_proj.to(dtype))
    return (
        grad_conv,
        (grad_projected.t() @ convolved.flatten(0, -2)).to(x_proj.dtype),
        (grad_delta.t() @ dt.flatten(0, -2)).to(dt_proj.dtype),
    )
