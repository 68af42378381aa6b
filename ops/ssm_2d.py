"""The public operator that scans a map in two dimensions: both halves of the 2D SSM."""

from collections.abc import Sequence

from torch import Tensor

from .backends import BACKENDS, choose_backend
from .checks import MapLike, check_map, check_same_map
from .directional_ssm import (
    check_directions,
    check_half,
    check_reduction,
    directional_ssm,
    exact_parameters,
)
from .halves import Halves, pack_groups
from .library_2d import ssm_2d_op

__all__ = ['check_groups', 'exact_groups', 'ssm_2d']


def ssm_2d(
    x: Tensor,
    gate: Tensor | None,
    groups: Sequence[Halves],
    reduction: str = 'sum',
    backend: str = 'auto',
    log_A: bool = False,
) -> Tensor:
    """State space model along one axis of a map, then along the other (V2M, Eq. 7-15).

    For each of a group's K routes :func:`directional_ssm` along ``first[k]`` with
    ``projects='input'``, then one along ``second[k]`` with ``projects='output'``, whose input is
    gated. A backend that fuses these adds up the groups' outputs and gradients where they are made.
    It keeps the arguments and the maps between the halves for the backward pass; and, of single
    states, what the projections make of each token, but for its time steps.

    Args:
        x: (B, H, W, E).
        gate: (B, H, W, E), or None.
        groups: Routes that share parameters, in turn.
        reduction: ``'none'``, of one group only, or ``'sum'`` over all routes.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        log_A: Whether each ``A`` is given by its logarithm: ``-exp(A)`` is meant.

    Returns:
        (B, H, W, E) if summed, or (K, B, H, W, E), in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, a direction, an option or the number of groups is wrong.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    check_map('x', x)
    check_same_map('gate', gate, x)
    check_reduction(reduction)
    check_groups(x, gate is not None, groups, reduction)
    backend = choose_backend(backend, x)
    if BACKENDS[backend].ssm_2d_forward is None:
        outputs = [_one_by_one(x, gate, group, (reduction, backend, log_A)) for group in groups]
        return sum(outputs[1:], outputs[0])
    return ssm_2d_op(x, gate, *pack_groups(exact_groups(groups, x)), reduction, log_A, backend)[0]


def exact_groups(groups: Sequence[Halves], x: Tensor) -> list[Halves]:
    """With all parameters in the dtype of the states of ``x``."""
    return [
        group._replace(
            rows=list(exact_parameters(group.rows, x)),
            columns=list(exact_parameters(group.columns, x)),
        )
        for group in groups
    ]


def check_groups(
    x: Tensor | MapLike, gated: bool, groups: Sequence[Halves], reduction: str
) -> None:
    """Check the groups of :func:`ssm_2d`; raises what that says.

    Args:
        x: (B, H, W, E).
        gated: Whether there is a gate.
        groups: See there.
        reduction: Likewise.
    """
    if not groups or (reduction == 'none' and len(groups) > 1):
        raise ValueError(
            f"groups must be at least one, and exactly one if reduction='none', but there are "
            f'{len(groups)}'
        )
    for rows, columns, first, second in groups:
        check_directions(first)
        check_directions(second)
        if len(first) != len(second):
            raise ValueError(
                'there must be a second direction for each first one, but there are '
                f'{len(first)} and {len(second)}'
            )
        check_half(x, False, rows, 'input')
        check_half(x, gated, columns, 'output')


def _one_by_one(x: Tensor, gate: Tensor | None, group: Halves, options: tuple) -> Tensor:
    """A group's halves as operators of their own."""
    reduction, backend, log_A = options
    first = (group.first, 'input', 'none', backend, log_A)
    second = (group.second, 'output', reduction, backend, log_A)
    between = directional_ssm(*(x, None, *group.rows, *first))
    return directional_ssm(*(between, gate, *group.columns, *second))
