"""The ``'mamba_ssm'`` backend: the scan of the optional package mamba_ssm, for comparison.

That scan takes sequences with the channels first. So every lane of a map is copied to a sequence,
which is reversed if the walk goes backwards, and the result is copied back.
"""

import sys
from typing import Any

import torch
from torch import Tensor

from ..directions import Direction, get_direction
from . import installed
from .reference import conv_backward, conv_forward

__all__ = ['DEVICES', 'conv_backward', 'conv_forward', 'refusal', 'scan_backward', 'scan_forward']

DEVICES = ('cuda',)


def refusal(x: Tensor) -> str | None:
    """Say why mamba_ssm's scan cannot run on ``x``, or return None."""
    interface = sys.modules.get('mamba_ssm.ops.selective_scan_interface')
    if hasattr(interface, 'STANDS_IN_FOR_MAMBA_SSM'):
        return 'mmv2m.ops.mamba_ssm_stand_in is installed in its place'
    if not installed.HAS_MAMBA_SSM:
        return 'mamba_ssm is not installed: pip install mamba-ssm'
    if x.dtype == torch.float64:
        return 'its scan has no float64; cast the input, or use the reference'
    if x.device.type != 'cuda':
        return f'the input is on {x.device}, but its scan needs a GPU'
    if x.numel() == 0:
        return 'its scan takes no empty maps'
    return None


def scan_forward(*args: Any) -> Tensor:
    """See :func:`mmv2m.ops.directional_scan`."""
    with torch.no_grad():
        return _scan(*args)


def scan_backward(grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, delta, A, B, C, D, z, delta_bias``."""
    tensors: list[Any] = [
        None if value is None else value.detach().requires_grad_() for value in args[:8]
    ]
    given = [value for value in tensors if value is not None]
    with torch.enable_grad():
        y = _scan(*tensors, *args[8:])
    found = iter(torch.autograd.grad(y, given, grad_y))
    return tuple(None if value is None else next(found) for value in tensors)


def _scan(*args: Any) -> Tensor:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction = args
    walk = get_direction(direction)
    y = selective_scan_fn(
        _sequences(x, walk),
        _sequences(delta, walk),
        A,
        _side(B, A, walk),
        _side(C, A, walk),
        D,
        z=None if z is None else _sequences(z, walk),
        delta_bias=delta_bias,
        delta_softplus=delta_softplus,
    )
    return _map(y, walk, x.shape)


def _side(projection: Tensor | None, A: Tensor, walk: Direction) -> Tensor:
    """Convert B or C for mamba_ssm: (E, N) if it is constant, (lanes, N, L) if it is per token."""
    if projection is None:
        return torch.ones_like(A)
    return projection if projection.dim() == 2 else _sequences(projection, walk)


def _sequences(x: Tensor, walk: Direction) -> Tensor:
    """Copy (B, H, W, E) to (lanes, E, L), each lane in the order of its walk."""
    x = x.transpose(1, 2) if walk.axis == 1 else x
    x = x.flatten(0, 1)
    return (x.flip(1) if walk.reverse else x).transpose(1, 2).contiguous()


def _map(y: Tensor, walk: Direction, shape: torch.Size) -> Tensor:
    """Undo :func:`_sequences`."""
    y = y.transpose(1, 2)
    y = (y.flip(1) if walk.reverse else y).unflatten(0, (shape[0], shape[walk.lanes]))
    return y.transpose(1, 2) if walk.axis == 1 else y
