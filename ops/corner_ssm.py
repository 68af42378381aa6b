"""The 2D SSM from all corners: a scan along one axis of a map, then one along the other."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .backends import BACKENDS, choose_backend, has
from .checks import MapLike, check_map, check_same_map
from .directional_ssm import check_reduction, check_ssm, directional_ssm, exact_parameters
from .directions import CornerGroup
from .groups import PARAMETERS, Group, pack_groups, unpack_groups
from .operator import differentiate_from_kept, like_inputs_not_kept, operator, present
from .precision import state_dtype

__all__ = ['check_groups', 'corner_ssm', 'exact_groups', 'like_results']


def corner_ssm(
    x: Tensor,
    gate: Tensor | None,
    groups: Sequence[Group],
    reduction: str = 'sum',
    backend: str = 'auto',
    log_A: bool = False,
) -> Tensor:
    """Apply a state space model along one axis of a map, then along the other (V2M, Eq. 7-15).

    From each of a group's K corners, one :func:`directional_ssm` runs along the corner's first
    direction with ``projects='input'``. A second one runs along its second direction with
    ``projects='output'``, and its input is gated. A backend may fuse all of them, and then adds up
    the groups' outputs and gradients while it computes them. For the backward pass, it keeps the
    arguments and the maps between the two scans. With one state per channel, it also keeps the
    projections of each token, except for the expanded time steps.

    Args:
        x: (B, H, W, E).
        gate: (B, H, W, E), or None.
        groups: Groups of corners that share parameters, and the parameters.
        reduction: ``'sum'`` over all corners, or ``'none'``, which takes only one group.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        log_A: Whether each ``A`` stands for ``-exp(A)``.

    Returns:
        (B, H, W, E) if summed, or (K, B, H, W, E), in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, an option or the number of groups or corners is wrong.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    check_map('x', x)
    check_same_map('gate', gate, x)
    check_reduction(reduction)
    check_groups(x, gate is not None, groups, reduction)
    backend = choose_backend(backend, x)
    if has(backend, 'corner_ssm_forward'):
        parameters, corners = pack_groups(exact_groups(groups, x))
        return _corner_ssm(x, gate, parameters, corners, reduction, log_A, backend)[0]
    outputs = [_compose(x, gate, group, reduction, backend, log_A) for group in groups]
    return sum(outputs[1:], outputs[0])


def exact_groups(groups: Sequence[Group], x: Tensor) -> list[Group]:
    """Cast all parameters of groups to the dtype of the states of ``x``."""
    return [
        Group(list(exact_parameters(rows, x)), list(exact_parameters(columns, x)), corners)
        for rows, columns, corners in groups
    ]


def check_groups(x: Tensor | MapLike, gated: bool, groups: Sequence[Group], reduction: str) -> None:
    """Check the groups of :func:`corner_ssm`.

    Args:
        x: (B, H, W, E).
        gated: Whether there is a gate.
        groups: See :func:`corner_ssm`.
        reduction: See :func:`corner_ssm`.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, or the number of groups, corners or parameters is wrong.
    """
    if not groups or (reduction == 'none' and len(groups) > 1):
        raise ValueError(
            "there must be at least one group, and exactly one if reduction='none', but there are "
            f'{len(groups)}'
        )
    for rows, columns, corners in groups:
        _check_corners(corners, reduction)
        if any(len(half) != PARAMETERS for half in (rows, columns)):
            raise ValueError(
                f'each scan of a group has {PARAMETERS} parameters, conv_weight to D, but there '
                f'are {len(rows)} and {len(columns)}'
            )
        check_ssm(x, False, rows, 'input')
        check_ssm(x, gated, columns, 'output')


def _check_corners(group: CornerGroup, reduction: str) -> None:
    """Check the corners of a group, and that they have no windows and flips.

    Layers implement windows and flips. The operator would ignore them.

    Raises:
        TypeError: If ``group`` is no :class:`CornerGroup`.
        ValueError: If it has no corner, windows, or flips that would have to precede a sum.
    """
    if not isinstance(group, CornerGroup):
        raise TypeError(f'corners of a group must be a CornerGroup, but are {group!r}')
    if not group.corners:
        raise ValueError('a group must have at least one corner, but there is none')
    if group.window:
        raise ValueError('corner_ssm has no windows: it scans whole maps')
    if reduction == 'sum' and any(corner.flip for corner in group.corners):
        raise ValueError("corner_ssm flips nothing: flip what reduction='none' returns, then sum")


def like_results(
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    corners: str,
    reduction: str,
    *options: Any,
) -> list[Tensor]:
    """Empty tensors like the operator's results: the output, and what is kept of each group."""
    groups = list(unpack_groups(parameters, corners))
    count = () if reduction == 'sum' else (len(groups[0].corners.corners),)
    y = torch.empty((*count, *x.shape), dtype=x.dtype, device=x.device)
    return [y, *(t for group in groups for t in _like_kept(x, group))]


def _like_kept(x: Tensor, group: Group) -> Iterator[Tensor]:
    """The maps between the scans of a group, and both scans' projections if they are kept."""
    tokens = (len(group.corners.corners), *x.shape[:-1])
    yield x.new_empty((*tokens, x.shape[-1]))
    if group.keeps_projections():
        for _, _, _, dt_proj, _, A, _ in (group.rows, group.columns):
            yield x.new_empty((*tokens, dt_proj.shape[1]))
            yield x.new_empty((*tokens, A.shape[1]), dtype=state_dtype(x))


@operator('corner_ssm', like_results)
def _corner_ssm(*args: Any) -> list[Tensor]:
    *inputs, backend = args
    return list(BACKENDS[backend].corner_ssm_forward(*inputs, True))


@operator('corner_ssm_backward', like_inputs_not_kept)
def _corner_ssm_backward(*args: Any) -> list[Tensor]:
    *inputs, backend = args
    return present(BACKENDS[backend].corner_ssm_backward(*inputs, (None, None)))


differentiate_from_kept(_corner_ssm, _corner_ssm_backward)


def _compose(
    x: Tensor, gate: Tensor | None, group: Group, reduction: str, backend: str, log_A: bool
) -> Tensor:
    """Run a group's scans as operators of their own."""
    rows, columns, corners = group
    how: dict[str, Any] = dict(backend=backend, log_A=log_A)
    first = dict(how, directions=corners.first, projects='input')
    second = dict(how, directions=corners.second, projects='output', reduction=reduction)
    return directional_ssm(directional_ssm(x, None, *rows, **first), gate, *columns, **second)
