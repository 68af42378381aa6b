"""Convolution, projections and scan of several directions as one operator on the Triton kernels.

What stays between forward and backward is the operator's inputs; the convolution and the
projections are computed again, which costs passes over the map and saves keeping three.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .conv import convs_backward, convs_forward
from .projection import project
from .scan import ScanInputs, scans_forward
from .scan_backward import scans_backward

__all__ = ['ssm_backward', 'ssm_forward']


def ssm_forward(
    x: Tensor,
    gate: Tensor | None,
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    directions: Sequence[str],
    projects: str,
    reduction: str,
) -> Tensor:
    """See :func:`mmv2m.ops.directional_ssm`."""
    inputs, _ = _scan_inputs(
        *(x, gate, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D),
        *(directions, projects),
    )
    return scans_forward(inputs, sums=reduction == 'sum')


def ssm_backward(
    grad_y: Tensor,
    x: Tensor,
    gate: Tensor | None,
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    directions: Sequence[str],
    projects: str,
    reduction: str,
) -> tuple[Tensor | None, ...]:
    """Gradients of the nine tensors."""
    inputs, dt = _scan_inputs(
        *(x, gate, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D),
        *(directions, projects),
    )
    grads = scans_backward(grad_y, inputs, sums=reduction == 'sum')
    with torch.autocast(x.device.type, enabled=False):
        grad_conv, grad_x_proj, grad_dt_proj = _projections_backward(
            grads, inputs.x, dt, x_proj, dt_proj
        )
    grad_x, grad_gate, grad_weight, grad_bias = convs_backward(
        grad_conv, x, gate, conv_weight, conv_bias, directions
    )
    return (
        *(grad_x, grad_gate, grad_weight, grad_bias),
        *(grad_x_proj, grad_dt_proj, grads['delta_bias'], grads['A'], grads['D']),
    )


def _scan_inputs(
    x: Tensor,
    gate: Tensor | None,
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    directions: Sequence[str],
    projects: str,
) -> tuple[ScanInputs, Tensor]:
    """What the scan reads, and the low-rank time step, (K, B, H, W, R) in the dtype of ``x``."""
    convolved = convs_forward(x, gate, conv_weight, conv_bias, directions)
    low_rank, delta, sides = project(convolved, x_proj, dt_proj, dt_bias, A.shape[1])
    B = None if projects == 'output' else sides[0]
    C = None if projects == 'input' else sides[-1]
    inputs = ScanInputs(convolved, delta, A, B, C, D, dt_bias, 'applied', directions)
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
