"""The public operator that scans a map in two dimensions: both halves of the 2D SSM."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .backends import BACKENDS, choose_backend
from .directional_ssm import check_ssm, directional_ssm, exact_parameters
from .library import ssm_2d_op

__all__ = ['ssm_2d']


def ssm_2d(
    x: Tensor,
    gate: Tensor | None,
    rows: Sequence[Any],
    columns: Sequence[Any],
    first: Sequence[str],
    second: Sequence[str],
    reduction: str = 'sum',
    backend: str = 'auto',
    log_A: bool = False,
) -> Tensor:
    """State space model along one axis of a map, then along the other (V2M, Eq. 7-15).

    For each of K routes :func:`directional_ssm` along ``first[k]`` with ``projects='input'``, then
    one along ``second[k]`` with ``projects='output'``, whose input is gated. A backend that fuses
    these keeps the arguments and the maps between the halves for the backward pass.

    Args:
        x: (B, H, W, E).
        gate: (B, H, W, E), or None.
        rows: ``conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D`` of the first half, as
            :func:`directional_ssm` takes them.
        columns: Those of the second half.
        first: Directions of the first half's scans, K.
        second: Those of the second half's.
        reduction: ``'none'``, or ``'sum'`` over the routes.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        log_A: Whether both ``A`` are given by their logarithms: ``-exp(A)`` is meant.

    Returns:
        (B, H, W, E) if summed, or (K, B, H, W, E), in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, a direction or an option is wrong.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    if x.dim() != 4 or len(first) != len(second):
        raise ValueError(
            f'x must be (B, H, W, E), with a second direction for each first one, but has shape '
            f'{tuple(x.shape)}, with {len(first)} and {len(second)} directions'
        )
    check_ssm(x, None, rows, first, 'input', 'none')
    check_ssm(x, gate, columns, second, 'output', reduction)
    backend = choose_backend(backend, x)
    if BACKENDS[backend].ssm_forward is None:
        halves: list[dict[str, Any]] = [
            dict(directions=first, projects='input', reduction='none'),
            dict(directions=second, projects='output', reduction=reduction),
        ]
        for half in halves:
            half.update(backend=backend, log_A=log_A)
        between = directional_ssm(x, None, *rows, **halves[0])
        return directional_ssm(between, gate, *columns, **halves[1])
    parameters = (*exact_parameters(rows, x), *exact_parameters(columns, x))
    ways = (','.join(first), ','.join(second))
    return ssm_2d_op(x, gate, *parameters, *ways, reduction, log_A, backend)[0]
