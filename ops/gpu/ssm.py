"""Convolution, projections and scan of several directions as one operator.

Between forward and backward pass, only the operator's inputs are kept, and low-rank time steps and
sides if asked for. The convolution and the projections are computed again. That takes passes over
the map, but saves the memory of three maps.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..directions import Direction
from ..ssm_tensors import SSMTensors
from .conv_targets import NEW, ConvTargets, new_ones
from .kernels import Kernels
from .projections import Projected
from .scan_inputs import ScanInputs

__all__ = ['ssm_backward', 'ssm_forward']


def ssm_forward(
    kernels: Kernels,
    tensors: Sequence[Any],
    directions: Sequence[Direction],
    projects: str,
    reduction: str,
    log_A: bool = False,
    add_to: Tensor | None = None,
    keeps: bool = False,
    gates_sum: bool = False,
) -> tuple[Tensor | None, ...]:
    """Run :func:`mmv2m.ops.directional_ssm`.

    Args:
        kernels: The kernels of which it is composed.
        tensors: The tensors of :class:`SSMTensors`.
        directions: The directions, as values.
        projects: See :func:`mmv2m.ops.directional_ssm`. With ``keeps``, it must not be ``'both'``.
        reduction: See :func:`mmv2m.ops.directional_ssm`.
        log_A: See :func:`mmv2m.ops.directional_ssm`.
        add_to: A map to which the sum over the directions is added, in place.
        keeps: Whether to return low-rank time steps and the side for the backward pass.
        gates_sum: Whether the sum over the directions goes through the gate too, at the end. This
            is not for training, because the backward pass needs the sum in front of the gate.

    Returns:
        The output, or None if ``add_to`` is given. With ``keeps``, also low-rank time steps, (K, B,
        H, W, R), in the dtype of ``x``, and the side, (K, B, H, W, N), in float32.
    """
    given = SSMTensors(*tensors)
    at_once = kernels.ssm_at_once(given, directions, projects, reduction, log_A, add_to, keeps)
    if at_once is not NotImplemented:
        y, *kept = at_once
        return (y if add_to is None else None, *(kept if keeps else ()))
    inputs, low_rank = _scan_inputs(kernels, given, directions, projects, log_A)
    if gates_sum:
        inputs = inputs.with_gate(given.gate)
    y = kernels.scans_forward(inputs, sums=reduction == 'sum', add_to=add_to)
    side = inputs.C if inputs.B is None else inputs.B
    return (y if add_to is None else None, *((low_rank, side) if keeps else ()))


def ssm_backward(
    kernels: Kernels,
    grad_y: Tensor,
    tensors: Sequence[Any],
    directions: Sequence[Direction],
    projects: str,
    reduction: str,
    log_A: bool = False,
    kept: Sequence[Tensor] = (),
    targets: tuple[Tensor | None, Tensor | None, bool] = NEW,
) -> tuple[Tensor | None, ...]:
    """Compute gradients of the nine tensors, given the gradient of the output.

    ``kept`` is what :func:`ssm_forward` has returned behind the output, and the other arguments are
    the same. Gradients of ``x`` and the gate are written to ``targets``, if there are any; see
    :class:`.conv_targets.ConvTargets`. Gradients that have a target are returned as None.
    """
    given, targets = SSMTensors(*tensors), ConvTargets(*targets)
    inputs, low_rank = _scan_inputs(kernels, given, directions, projects, log_A, kept)
    grads = kernels.scans_backward(grad_y, inputs, sums=reduction == 'sum')
    grad_x, grad_delta = grads['x'], grads['delta']
    sides = [grads[name] for name in ('B', 'C') if grads[name] is not None]
    conv = given.conv()
    conv_adds = conv is not None and kernels.adds_projected_gradient(given.x, given.x_proj)
    *of_projections, projected = kernels.project_backward(
        *(grad_x, grad_delta, sides, inputs.x, low_rank, given.x_proj, given.dt_proj),
        adds=not conv_adds,
    )
    assert grad_x is not None
    if conv is None:
        *of_maps, of_weight, of_bias = targets.receive((_sum_maps(grad_x, given), None, None, None))
    else:
        more: dict[str, Any] = dict(projected=projected) if conv_adds else {}
        *of_maps, of_weight, of_bias = kernels.convs_backward(
            grad_x, *conv, directions, targets, **more
        )
    partial = [of_weight, of_bias, *of_projections, grads['delta_bias'], grads['A'], grads['D']]
    of_weight, *others = kernels.sum_rows(partial)
    if given.conv_weight is not None and of_weight is not None:
        of_weight = of_weight.view_as(given.conv_weight)
    return *new_ones(of_maps, targets[:2]), of_weight, *others


def _sum_maps(grad_maps: Tensor, given: SSMTensors) -> Tensor:
    """Compute the gradient of ``x`` from the gradients of all maps, (K, B, H, W, E)."""
    if given.x.dim() == 5:
        return grad_maps
    # PyTorch sums half precision in float32.
    return grad_maps[0] if len(grad_maps) == 1 else grad_maps.sum(0)


def _scan_inputs(
    kernels: Kernels,
    given: SSMTensors,
    directions: Sequence[Direction],
    projects: str,
    log_A: bool,
    kept: Sequence[Tensor] = (),
) -> tuple[ScanInputs, Tensor]:
    """Make the scan's inputs and the low-rank time step, (K, B, H, W, R) in the dtype of ``x``."""
    maps, (low_rank, delta, sides) = _project(kernels, given, directions, kept)
    B = None if projects == 'output' else sides[0]
    C = None if projects == 'input' else sides[-1]
    inputs = ScanInputs(
        *(maps, delta, given.A, B, C, given.D, given.dt_bias, 'applied', directions, log_A)
    )
    return inputs, low_rank


def _project(
    kernels: Kernels, given: SSMTensors, directions: Sequence[Direction], kept: Sequence[Tensor]
) -> tuple[Tensor, Projected]:
    """Compute the maps that are scanned, (K, B, H, W, E), and their projections."""
    conv, (dt_proj, dt_bias, states) = given.conv(), (*given[5:7], given.A.shape[1])
    if conv is not None and not kept:
        return kernels.convs_project(*conv, directions, given.x_proj, dt_proj, dt_bias, states)
    if conv is not None:
        maps = kernels.convs_forward(*conv, directions)
    else:
        # This copies only a map that several directions share, or one that has gaps.
        maps = given.x.expand(len(directions), *given.x.shape[-4:]).contiguous()
    if not kept:
        return maps, kernels.project(maps, given.x_proj, dt_proj, dt_bias, states)
    low_rank, side = kept
    return maps, Projected(low_rank, kernels.expand(low_rank, dt_proj, dt_bias), [side])
