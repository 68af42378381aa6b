"""Convolution, projections and scan of several directions as one operator on the Triton kernels.

What stays between forward and backward is the operator's inputs; the convolution and the
projections are computed again, which costs passes over the map and saves keeping three.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .kernel_set import TRITON, KernelSet
from .projection_backward import Through, project_backward
from .scan import ScanInputs

__all__ = ['ssm_backward', 'ssm_forward']


class SSMTensors(NamedTuple):
    """The tensors among the arguments of :func:`mmv2m.ops.directional_ssm`."""

    x: Tensor
    gate: Tensor | None
    conv_weight: Tensor | None
    conv_bias: Tensor | None
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    A: Tensor
    D: Tensor

    def conv(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None] | None:
        """What the convolution reads, or None without one."""
        if self.conv_weight is None:
            return None
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
    adds_later = given.conv_weight is not None and kernels.adds_through(given.x, given.x_proj)
    *projections, through = project_backward(
        *(grads['x'], grads['delta'], sides, inputs.x, low_rank, given.x_proj, given.dt_proj),
        adds=not adds_later,
    )
    more = dict(through=through) if adds_later else {}
    grad_x, grad_gate, *taps = _conv_backward(grads['x'], given, directions, kernels, **more)
    partial = [*taps, *projections, grads['delta_bias'], grads['A'], grads['D']]
    grad_weight, *others = kernels.sum_rows(partial)
    if given.conv_weight is not None and grad_weight is not None:
        grad_weight = grad_weight.view_as(given.conv_weight)
    return grad_x, grad_gate, grad_weight, *others


def _scan_inputs(
    given: SSMTensors, directions: Sequence[str], projects: str, log_A: bool, kernels: KernelSet
) -> tuple[ScanInputs, Tensor]:
    """What the scan reads, and the low-rank time step, (K, B, H, W, R) in the dtype of ``x``."""
    conv = given.conv()
    parameters = (given.x_proj, given.dt_proj, given.dt_bias, given.A.shape[1])
    if conv is not None:
        maps, projected = kernels.convs_project(*conv, directions, *parameters)
    else:
        # A copy only of what is no map a direction, or has gaps.
        maps = given.x.expand(len(directions), *given.x.shape[-4:]).contiguous()
        projected = kernels.project(maps, *parameters)
    low_rank, delta, sides = projected
    B = None if projects == 'output' else sides[0]
    C = None if projects == 'input' else sides[-1]
    inputs = ScanInputs(
        *(maps, delta, given.A, B, C, given.D, given.dt_bias, 'applied', directions, log_A)
    )
    return inputs, low_rank


def _conv_backward(
    grad_maps: Tensor,
    given: SSMTensors,
    directions: Sequence[str],
    kernels: KernelSet,
    **more: Through,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``x`` and ``gate``, and partial sums of those of the weight and the bias."""
    conv = given.conv()
    if conv is not None:
        return kernels.convs_backward(grad_maps, *conv, directions, **more)
    if given.x.dim() == 4:
        # PyTorch sums half precision in float32.
        grad_maps = grad_maps[0] if len(directions) == 1 else grad_maps.sum(0)
    return grad_maps, None, None, None
