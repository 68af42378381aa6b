"""Mamba's selective scan with the interface of mamba_ssm: sequences, channels before tokens."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_floating
from .directional_scan import directional_scan
from .precision import state_dtype

__all__ = ['ScanGroup', 'scan_groups', 'selective_scan_fn']


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool | None = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Scan sequences selectively, with the signature and the layout of mamba_ssm's function.

    The recurrence is the one of :func:`directional_scan`, along the last axis (Mamba, Algorithm 2).
    A sequence is viewed as a map of height 1, so arguments are not copied here. The kernels read
    tokens whose channels are adjacent in memory, as in ``x.transpose(1, 2)`` of a contiguous (B, L,
    D) tensor, and copy tensors of other layouts.

    Args:
        u: Input, (B, D, L), in float16, bfloat16, float32 or float64, with any strides.
        delta: Time step before bias and softplus, like ``u``.
        A: Evolution parameter, (D, N), real.
        B: Input projection: (B, N, L) in the dtype of ``u``; (B, G, N, L) for G groups of D / G
            channels each; or (D, N) if it is constant.
        C: Output projection, like ``B``.
        D: Skip, (D,).
        z: Gate, like ``u``.
        delta_bias: Added to ``delta``, (D,).
        delta_softplus: Whether ``delta`` goes through a softplus.
        return_last_state: Whether to return the state after the last step too. Unlike mamba_ssm's,
            it has gradients.

    Returns:
        (B, D, L) in the dtype of ``u``. With one group, it is a view of a contiguous (B, L, D)
        tensor; with several groups, it is contiguous. With ``return_last_state``, a pair of this
        and the last state, (B, D, N), in float32 (float64 if ``u`` is float64).

    Raises:
        TypeError: If an argument has a wrong type or dtype, such as a complex ``A``.
        ValueError: If a shape or a device is wrong.
    """
    groups = scan_groups(u, delta, A, B, C, D, z, delta_bias)
    softplus = bool(delta_softplus)
    y = join_channels([directional_scan(*group, delta_softplus=softplus) for group in groups])
    if not return_last_state:
        return y
    return y, torch.cat([_last_state(group, softplus) for group in groups], 1)


class ScanGroup(NamedTuple):
    """Arguments of :func:`directional_scan` for channels that share ``B`` and ``C``."""

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None


def scan_groups(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> list[ScanGroup]:
    """Check the arguments of :func:`selective_scan_fn`, and view them as maps of each group.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape or a device is wrong.
    """
    count = _check(u, delta, A, B, C, D, z, delta_bias)
    x, step, gate = ([_as_map(t) for t in _split(value, count, 1)] for value in (u, delta, z))
    decay, skip, bias = (_split(value, count) for value in (A, D, delta_bias))
    parts = (x, step, decay, _split_side(B, count), _split_side(C, count), skip, gate, bias)
    return [ScanGroup(*group) for group in zip(*parts, strict=True)]


# It is not nested in scan_groups, because torch.compile of PyTorch 2.9 does not support an
# annotation with a | there.
def _split(value: Tensor | None, count: int, dim: int = 0) -> Sequence[Tensor | None]:
    return [None] * count if value is None else value.chunk(count, dim)


def _split_side(value: Tensor, count: int) -> Sequence[Tensor | None]:
    """Split B or C, (D, N), (B, N, L) or (B, G, N, L), by groups."""
    if value.dim() == 2:
        return _split(value, count)
    return [_as_map(t) for t in ([value] if value.dim() == 3 else value.unbind(1))]


def join_channels(maps: Sequence[Tensor]) -> Tensor:
    """Join the maps of all groups, (B, 1, L, D / G), to one tensor, (B, D, L)."""
    sequences = [y[:, 0].transpose(1, 2) for y in maps]
    return sequences[0] if len(sequences) == 1 else torch.cat(sequences, 1)


def _as_map(value: Tensor | None) -> Tensor | None:
    """View (B, D, L) as (B, 1, L, D)."""
    return None if value is None else value.transpose(1, 2)[:, None]


def _last_state(group: ScanGroup, softplus: bool) -> Tensor:
    """Compute the last state, (B, D / G, N): each token's input, decayed by all later steps."""
    dtype = state_dtype(group.x)
    step = group.delta[:, 0].to(dtype)
    if group.delta_bias is not None:
        step = step + group.delta_bias.to(dtype)
    if softplus:
        step = F.softplus(step)
    # The sum of later steps leaves the step itself out from the start. To subtract it afterwards
    # would lose the later steps beside a large one.
    later = F.pad(step[:, 1:], (0, 0, 0, 1)).flip(1).cumsum(1).flip(1)
    drive = step * group.x[:, 0].to(dtype)
    A, B = group.A.to(dtype), group.B.to(dtype)
    states = []  # one after the other, because all at once would take N times the memory of u
    for n in range(A.shape[1]):
        side = B[:, n] if B.dim() == 2 else B[:, 0, :, n, None]
        states.append((torch.exp(later * A[:, n]) * drive * side).sum(1))
    return torch.stack(states, -1)


def _check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> int:
    """Check the arguments, and return the number of groups."""
    check_floating('u', u)
    if u.dim() != 3:
        raise ValueError(f'u must be a (B, D, L) tensor, but has shape {tuple(u.shape)}')
    if isinstance(A, Tensor) and A.is_complex():
        raise TypeError(f'A must be real, but is {A.dtype}: this scan has no complex states')
    check_floating('A', A)
    batch, channels, length = u.shape
    states = A.shape[-1] if A.dim() else 0
    _expect('A', A, (channels, states), u)
    for name, value in (('D', D), ('delta_bias', delta_bias)):
        _expect(name, value, (channels,), u)
    for name, value in (('delta', delta), ('z', z)):
        _expect(name, value, (batch, channels, length), u, alike=True)
    counts = set()
    for name, value in (('B', B), ('C', C)):
        check_floating(name, value)
        if value.dim() == 2:
            _expect(name, value, (channels, states), u)
            continue
        groups = value.shape[1:-2]  # none, or one number
        _expect(name, value, (batch, *groups, states, length), u, alike=True)
        counts.add(groups[0] if groups else 1)
    if len(counts) > 1 or any(not count or channels % count for count in counts):
        raise ValueError(
            f'B and C must have the same number of groups, a divisor of the {channels} channels '
            f'of u, but have shapes {tuple(B.shape)} and {tuple(C.shape)}'
        )
    return counts.pop() if counts else 1


def _expect(
    name: str, value: Tensor | None, shape: tuple[int, ...], u: Tensor, alike: bool = False
) -> None:
    """Check shape and device of an argument, and, if ``alike``, that it has the dtype of ``u``."""
    if value is None:
        return
    check_floating(name, value)
    if value.shape != shape:
        raise ValueError(
            f'{name} must have shape {shape} beside u of shape {tuple(u.shape)}, but has shape '
            f'{tuple(value.shape)}'
        )
    if value.device != u.device:
        raise ValueError(f'{name} is on {value.device} but u is on {u.device}; move one of them')
    if alike and value.dtype != u.dtype:
        raise TypeError(f'{name} is {value.dtype} but u is {u.dtype}; cast one of them')
