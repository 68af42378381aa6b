"""Convolution, projections and scan of several directions as one operator on the Triton kernels.

What stays between forward and backward is the operator's inputs; the convolution and the
projections are computed again, which costs passes over the map and saves keeping three.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .kernel_set import TRITON, KernelSet
from .projection_backward import project_backward
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
        return self.x, self.gate, self.conv_weight.flatten(1), self.conv_bias


def ssm_forward(
    tensors: Sequence[Any],
    directions: Sequence[str],
    projects: str,
    reduction: str,
    log_A: bool = False,
    kernels: KernelSet = TRITON,
) -> Tensor:
    """See :func:`mmv2m.ops.directional_ssm`; ``tensors`` are those of :class:`SSMTensors`."""
    inputs, _ = _scan_inputs(SSMTensors(*tensors), directions, projects, log_A, kernels)
    return kernels.scans_forward(inputs, sums=reduction == 'sum')


def ssm_backward(
    grad_y: Tensor,
    tensors: Sequence[Any],
    directions: Sequence[str],
    projects: str,
    reduction: str,
    log_A: bool = False,
    kernels: KernelSet = TRITON,
) -> tuple[Tensor | None, ...]:
    """Gradients of the nine tensors."""
    given = SSMTensors(*tensors)
    inputs, low_rank = _scan_inputs(given, directions, projects, log_A, kernels)
    grads = kernels.scans_backward(grad_y, inputs, sums=reduction == 'sum')
    sides = [grads[name] for name in ('B', 'C') if grads[name] is not None]
    projections = project_backward(
        *(grads['x'], grads['delta'], sides, inputs.x, low_rank, given.x_proj, given.dt_proj)
    )
    grad_x, grad_gate, *taps = kernels.convs_backward(grads['x'], *given.conv(), directions)
    partial = [*taps, *projections, grads['delta_bias'], grads['A'], grads['D']]
    grad_weight, *others = kernels.sum_rows(partial)
    assert grad_weight is not None
    return grad_x, grad_gate, grad_weight.view_as(given.conv_weight), *others


def _scan_inputs(
    given: SSMTensors, directions: Sequence[str], projects: str, log_A: bool, kernels: KernelSet
) -> tuple[ScanInputs, Tensor]:
    """What the scan reads, and the low-rank time step, (K, B, H, W, R) in the dtype of ``x``."""
    convolved = kernels.convs_forward(*given.conv(), directions)
    low_rank, delta, sides = kernels.project(
        convolved, given.x_proj, given.dt_proj, given.dt_bias, given.A.shape[1]
    )
    B = None if projects == 'output' else sides[0]
    C = None if projects == 'input' else sides[-1]
    inputs = ScanInputs(
        *(convolved, delta, given.A, B, C, given.D, given.dt_bias, 'applied', directions, log_A)
    )
    return inputs, low_rank
