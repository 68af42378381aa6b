"""Convolution, projections and scan of several directions as one operator on the Triton kernels.

What stays between forward and backward is the operator's inputs; the convolution and the
projections are computed again, which costs passes over the map and saves keeping three. Low-rank
time steps and sides are kept if asked for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .conv_gradients import Into, leave_in, made_anew
from .kernel_set import TRITON, KernelSet
from .projection import Projected
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
    into: Tensor | None = None,
    keeps: bool = False,
    gates_sum: bool = False,
    kernels: KernelSet = TRITON,
) -> tuple[Tensor | None, ...]:
    """See :func:`mmv2m.ops.directional_ssm`; ``tensors`` are those of :class:`SSMTensors`.

    Args:
        tensors: As there, like the other arguments that it has.
        directions: As there.
        projects: As there; one side if ``keeps``.
        reduction: As there.
        log_A: As there.
        into: Sums over the directions are added to it, in place, if given.
        keeps: Whether the backward pass is going to be given low-rank time steps and the side.
        gates_sum: Whether the sum over the directions goes through the gate too, at the end. Not
            for training: the backward pass needs what is in front of the gate.
        kernels: What it is put together from.

    Returns:
        The output, None if there is ``into``; and, if ``keeps``, low-rank time steps (K, B, H, W,
        R) in the dtype of ``x`` and the side (K, B, H, W, N) in float32.
    """
    given = SSMTensors(*tensors)
    inputs, low_rank = _scan_inputs(given, directions, projects, log_A, kernels)
    if gates_sum:
        inputs = inputs.through(given.gate)
    y = kernels.scans_forward(inputs, sums=reduction == 'sum', into=into)
    side = inputs.C if inputs.B is None else inputs.B
    return (y if into is None else None, *((low_rank, side) if keeps else ()))


def ssm_backward(
    grad_y: Tensor,
    tensors: Sequence[Any],
    directions: Sequence[str],
    projects: str,
    reduction: str,
    log_A: bool = False,
    kept: Sequence[Tensor] = (),
    into: tuple[Tensor | None, Tensor | None, bool] | None = None,
    kernels: KernelSet = TRITON,
) -> tuple[Tensor | None, ...]:
    """Gradients of the nine tensors.

    ``kept`` is what :func:`ssm_forward` has returned to be kept. Gradients of ``x`` and the gate
    that go ``into`` something, see :class:`.Into`, are left there, and None is returned of them.
    """
    given = SSMTensors(*tensors)
    leaves = None if into is None else Into(*into)
    inputs, low_rank = _scan_inputs(given, directions, projects, log_A, kernels, kept)
    grads = kernels.scans_backward(grad_y, inputs, sums=reduction == 'sum')
    sides = [grads[name] for name in ('B', 'C') if grads[name] is not None]
    adds_later = given.conv_weight is not None and kernels.adds_through(given.x, given.x_proj)
    *projections, through = project_backward(
        *(grads['x'], grads['delta'], sides, inputs.x, low_rank, given.x_proj, given.dt_proj),
        adds=not adds_later,
    )
    more = dict(through=through) if adds_later else {}
    *maps, grad_weight, grad_bias = _conv_backward(
        grads['x'], given, directions, kernels, leaves, **more
    )
    grad_x, grad_gate = made_anew(maps, into[:2] if into else (None, None))
    partial = [grad_weight, grad_bias, *projections, grads['delta_bias'], grads['A'], grads['D']]
    grad_weight, *others = kernels.sum_rows(partial)
    if given.conv_weight is not None and grad_weight is not None:
        grad_weight = grad_weight.view_as(given.conv_weight)
    return grad_x, grad_gate, grad_weight, *others


def _scan_inputs(
    given: SSMTensors,
    directions: Sequence[str],
    projects: str,
    log_A: bool,
    kernels: KernelSet,
    kept: Sequence[Tensor] = (),
) -> tuple[ScanInputs, Tensor]:
    """What the scan reads, and the low-rank time step, (K, B, H, W, R) in the dtype of ``x``."""
    maps, projected = _project(given, directions, kernels, kept)
    low_rank, delta, sides = projected
    B = None if projects == 'output' else sides[0]
    C = None if projects == 'input' else sides[-1]
    inputs = ScanInputs(
        *(maps, delta, given.A, B, C, given.D, given.dt_bias, 'applied', directions, log_A)
    )
    return inputs, low_rank


def _project(
    given: SSMTensors, directions: Sequence[str], kernels: KernelSet, kept: Sequence[Tensor]
) -> tuple[Tensor, Projected]:
    """The maps that are scanned, (K, B, H, W, E), and what is projected of them."""
    conv = given.conv()
    parameters = (given.dt_proj, given.dt_bias)
    if conv is not None and not kept:
        return kernels.convs_project(
            *(*conv, directions, given.x_proj, *parameters, given.A.shape[1])
        )
    if conv is not None:
        maps = kernels.convs_forward(*conv, directions)
    else:
        # A copy only of what is no map a direction, or has gaps.
        maps = given.x.expand(len(directions), *given.x.shape[-4:]).contiguous()
    if not kept:
        return maps, kernels.project(maps, given.x_proj, *parameters, given.A.shape[1])
    low_rank, side = kept
    return maps, Projected(low_rank, kernels.expand(low_rank, *parameters), [side])


def _conv_backward(
    grad_maps: Tensor,
    given: SSMTensors,
    directions: Sequence[str],
    kernels: KernelSet,
    into: Into | None,
    **more: Through,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``x`` and ``gate``, and partial sums of those of the weight and the bias."""
    conv = given.conv()
    if conv is not None:
        return kernels.convs_backward(grad_maps, *conv, directions, into=into, **more)
    if given.x.dim() == 4:
        # PyTorch sums half precision in float32.
        grad_maps = grad_maps[0] if len(directions) == 1 else grad_maps.sum(0)
    return leave_in(into or Into(None, None), (grad_maps, None, None, None))
