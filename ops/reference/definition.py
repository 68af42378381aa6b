"""The definitions of the operators in plain PyTorch, with which every kernel is compared.

Both functions run on any device and in any floating dtype, and autograd can differentiate them.
Shape letters: ``B`` batch, ``H W`` the map, ``E`` channels, ``N`` states per channel, ``K`` taps of
the convolution.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..directions import Direction, get_direction
from ..precision import state_dtype

__all__ = [
    'directional_conv_reference',
    'directional_scan_reference',
    'seen_by_taps',
    'token_at',
    'weight_taps',
]


def token_at(projection: Tensor | None, axis: int, t: int) -> Tensor | None:
    """Select an input or output projection at step ``t``, to broadcast with (B, lanes, E, N).

    Args:
        projection: (B, H, W, N) per token; (E, N) if it is constant; or None for the constant 1.
        axis: The axis of the walk.
        t: The position on the axis.
    """
    if projection is None or projection.dim() == 2:
        return projection
    return projection.select(axis, t).unsqueeze(-2)


def directional_scan_reference(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    direction: str = 'right',
) -> Tensor:
    """Compute a selective scan along one axis of a map, one step after the other.

    :func:`mmv2m.ops.directional_scan` describes the result and the arguments.
    """
    walk = get_direction(direction)
    axis = walk.axis
    dtype = state_dtype(x)
    u = x.to(dtype)
    delta = delta.to(dtype)
    if delta_bias is not None:
        delta = delta + delta_bias
    if delta_softplus:
        delta = F.softplus(delta)
    B = None if B is None else B.to(dtype)
    C = None if C is None else C.to(dtype)

    drive = delta * u
    state = u.new_zeros(u.shape[0], u.shape[walk.lanes], *A.shape)
    outputs: dict[int, Tensor] = {}
    for t in walk.steps(u.shape[axis]):
        decay = torch.exp(delta.select(axis, t).unsqueeze(-1) * A)
        inflow = drive.select(axis, t).unsqueeze(-1)
        B_t, C_t = token_at(B, axis, t), token_at(C, axis, t)
        state = decay * state + (inflow if B_t is None else inflow * B_t)
        outputs[t] = (state if C_t is None else state * C_t).sum(-1)
    y = torch.stack([outputs[t] for t in range(len(outputs))], axis) if outputs else u.clone()
    if D is not None:
        y = y + D * u
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(x.dtype)


def directional_conv_reference(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, direction: str = 'right'
) -> Tensor:
    """Compute a causal depthwise convolution along one axis of a map, then SiLU.

    :func:`mmv2m.ops.directional_conv` describes the result and the arguments.
    """
    dtype = state_dtype(x)
    y = weight_taps(x.to(dtype), weight, get_direction(direction))
    return F.silu(y if bias is None else y + bias).to(x.dtype)


def weight_taps(x: Tensor, weight: Tensor, walk: Direction) -> Tensor:
    """Sum the taps of a causal depthwise convolution, whose last tap reads the token itself."""
    taps = weight.shape[-1]
    seen = seen_by_taps(x, taps, walk)
    y = weight[:, 0] * seen[0]
    for tap in range(1, taps):
        y = y + weight[:, tap] * seen[tap]
    return y


def seen_by_taps(x: Tensor, taps: int, walk: Direction) -> list[Tensor]:
    """The (B, H, W, E) map that each tap reads, which is ``x`` of ``taps - 1 - tap`` steps ago."""
    # F.pad of PyTorch 2.9 does not support maps without rows or columns.
    edge = x.new_zeros([taps - 1 if i == walk.axis else size for i, size in enumerate(x.shape)])
    padded = torch.cat((x, edge) if walk.reverse else (edge, x), walk.axis)
    starts = range(taps - 1, -1, -1) if walk.reverse else range(taps)
    return [padded.narrow(walk.axis, start, x.shape[walk.axis]) for start in starts]
