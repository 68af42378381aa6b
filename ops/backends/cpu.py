"""The ``'cpu'`` backend: kernels in C++ that are compiled at their first use; see ``ops/cpu``."""

from typing import Any

import torch
from torch import Tensor

from ..cpu import build, corner_ssm, ssm
from ..cpu.build import kernels
from ..cpu.rows import (
    add_norm_backward,
    add_norm_forward,
    gate_backward,
    gate_forward,
    side_by_side,
)
from ..cpu.ssm import numbers
from ..directions import get_direction, read_corners, read_directions

__all__ = [
    'DEVICES',
    'add_norm_backward',
    'add_norm_forward',
    'conv_backward',
    'conv_forward',
    'convs_backward',
    'convs_forward',
    'corner_ssm_backward',
    'corner_ssm_forward',
    'coupled_scan_backward',
    'coupled_scan_forward',
    'gate_backward',
    'gate_forward',
    'refusal',
    'scan_backward',
    'scan_forward',
    'ssm_backward',
    'ssm_forward',
]

DEVICES = ('cpu',)
DTYPES = (torch.float32, torch.bfloat16)


def refusal(x: Tensor) -> str | None:
    """Say why the kernels cannot run on ``x``, or return None; this may compile the kernels."""
    if x.device.type != 'cpu':
        return f'the input is on {x.device}, but its kernels run on CPUs'
    if x.dtype not in DTYPES:
        return f'its kernels have float32 and bfloat16, but the input is {x.dtype}'
    return build.refusal()


def scan_forward(x: Tensor, delta: Tensor, *args: Any) -> Tensor:
    """See :func:`mmv2m.ops.directional_scan`."""
    y = torch.empty(x.shape, dtype=x.dtype)
    *tensors, softplus, ways = _scan_arguments(x, delta, *args)
    kernels().scan_forward(*tensors, softplus, False, ways, y[None], False)
    return y


def scan_backward(grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, delta, A, B, C, D, z, delta_bias``."""
    grads = kernels().scan_backward(_one(grad_y), *_scan_arguments(*args))
    pairs = zip(grads, args[:8], strict=True)
    return tuple(None if p is None else g.view(p.shape) for g, p in pairs)


def coupled_scan_forward(x: Tensor, *args: Any) -> Tensor:
    """See :func:`mmv2m.ops.coupled_scan`."""
    y = torch.empty(x.shape, dtype=x.dtype)
    torch.ops.mmv2m_cpu.coupled_forward(*_coupled_arguments(x, *args), y)
    return y


def coupled_scan_backward(grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, delta, A, weight, B, C, D, delta_bias``."""
    grads = torch.ops.mmv2m_cpu.coupled_backward(side_by_side(grad_y), *_coupled_arguments(*args))
    pairs = zip(grads, args[:8], strict=True)
    return tuple(None if p is None else g.view(p.shape) for g, p in pairs)


def conv_forward(x: Tensor, weight: Tensor, bias: Tensor | None, direction: str) -> Tensor:
    """See :func:`mmv2m.ops.directional_conv`."""
    return convs_forward(x, weight, bias, direction)[0]


def conv_backward(grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, weight, bias``."""
    return convs_backward(grad_y[None], *args)


def convs_forward(x: Tensor, weight: Tensor, bias: Tensor | None, directions: str) -> Tensor:
    """See :func:`mmv2m.ops.directional_conv`."""
    ways = numbers(read_directions(directions))
    return kernels().conv_forward(side_by_side(x), None, weight, bias, ways)


def convs_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, directions: str
) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, weight, bias``."""
    grad_x, ways = torch.empty(x.shape, dtype=x.dtype), numbers(read_directions(directions))
    maps = side_by_side(grad_y), side_by_side(x)
    of_weight, of_bias = kernels().conv_backward(
        *maps, None, weight, bias, ways, grad_x, None, False, False
    )
    return grad_x, of_weight, None if bias is None else of_bias


def ssm_forward(tensors: Any, directions: str, *options: Any) -> tuple[Tensor, ...]:
    """See :mod:`..cpu.ssm`."""
    x, gate, *parameters = tensors
    maps = (None if t is None else side_by_side(t) for t in (x, gate))
    return ssm.ssm_forward((*maps, *parameters), read_directions(directions), *options)


def ssm_backward(
    grad_y: Tensor, tensors: Any, directions: str, *options: Any
) -> list[Tensor | None]:
    """See :mod:`..cpu.ssm`."""
    x, gate, *parameters = tensors
    maps = (None if t is None else side_by_side(t) for t in (x, gate))
    ways = read_directions(directions)
    return ssm.ssm_backward(side_by_side(grad_y), (*maps, *parameters), ways, *options)


def corner_ssm_forward(x: Tensor, gate: Tensor | None, *args: Any) -> list[Tensor]:
    """See :mod:`..cpu.corner_ssm`."""
    gate = None if gate is None else side_by_side(gate)
    return corner_ssm.corner_ssm_forward(side_by_side(x), gate, *args)


def corner_ssm_backward(
    grad_y: Tensor, kept: Any, x: Tensor, gate: Tensor | None, *args: Any
) -> list[Tensor | None]:
    """See :mod:`..cpu.corner_ssm`."""
    gate = None if gate is None else side_by_side(gate)
    maps = (side_by_side(grad_y), kept, side_by_side(x), gate)
    return corner_ssm.corner_ssm_backward(*maps, *args)


def _one(x: Tensor) -> Tensor:
    """View a map as the only one of several: (1, B, H, W, channels)."""
    return side_by_side(x)[None]


def _scan_arguments(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    direction: str,
) -> tuple[Any, ...]:
    """Convert the arguments of the scan to those of the kernels."""
    maps = (t if t is None or t.dim() < 4 else _one(t) for t in (x, delta, A, B, C, D, z))
    return *maps, delta_bias, delta_softplus, numbers([get_direction(direction)])


def _coupled_arguments(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    weight: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    corners: str,
) -> tuple[Any, ...]:
    """Convert the arguments of the coupled scan to those of the kernels.

    The projections of both states are joined, and each corner is a pair of directions.
    """
    x, delta, B, C = (side_by_side(t) for t in (x, delta, B.flatten(-2), C.flatten(-2)))
    ways = [way for corner in read_corners(corners)[0].corners for way in corner[:2]]
    return x, delta, A, weight, B, C, D, delta_bias, delta_softplus, numbers(ways)
