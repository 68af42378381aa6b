"""Both scans of the 2D SSM, of all groups of corners."""

from collections.abc import Sequence
from itertools import islice

from torch import Tensor

from ..groups import unpack_groups
from .conv_targets import new_ones
from .kernels import Kernels
from .ssm import ssm_backward, ssm_forward

__all__ = ['corner_ssm_backward', 'corner_ssm_forward']


def corner_ssm_forward(
    kernels: Kernels,
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    corners: str,
    reduction: str,
    log_A: bool,
    trains: bool = True,
) -> tuple[Tensor | None, ...]:
    """Run :func:`mmv2m.ops.corner_ssm`, given the groups from :func:`..groups.pack_groups`.

    Args:
        kernels: The kernels of which it is composed.
        x: See :func:`mmv2m.ops.corner_ssm`.
        gate: See :func:`mmv2m.ops.corner_ssm`.
        parameters: Parameters of all groups.
        corners: Corners of all groups, as text.
        reduction: See :func:`mmv2m.ops.corner_ssm`.
        log_A: See :func:`mmv2m.ops.corner_ssm`.
        trains: Whether there is going to be a backward pass. If not, nothing is kept for it, and
            the sum over all groups goes through the gate too, if there is one.

    Returns:
        The output, and what is kept of each group: the maps between its two scans, and both scans'
        low-rank time steps and sides if the group keeps projections.
    """
    groups = list(unpack_groups(parameters, corners))
    y: Tensor | None = None
    kept: list[Tensor | None] = []
    for group in groups:
        keeps = trains and group.keeps_projections()
        gates_sum = not trains and gate is not None and group is groups[-1]
        between, *of_rows = ssm_forward(
            *(kernels, (x, None, *group.rows), group.corners.first, 'input', 'none', log_A),
            keeps=keeps,
        )
        total, *of_columns = ssm_forward(
            *(kernels, (between, gate, *group.columns), group.corners.second, 'output', reduction),
            *(log_A, y, keeps, gates_sum),
        )
        y = total if y is None else y
        if trains:
            kept += [between, *of_rows, *of_columns]
    return y, *kept


def corner_ssm_backward(
    kernels: Kernels,
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    corners: str,
    reduction: str,
    log_A: bool,
    targets: tuple[Tensor | None, Tensor | None] = (None, None),
) -> tuple[Tensor | None, ...]:
    """Compute gradients of ``x``, ``gate`` and the parameters, given the gradient of the output.

    ``kept`` is what :func:`corner_ssm_forward` has returned behind the output, and the other
    arguments are the same. The gradient of ``x`` overwrites the first target. The gradient of
    ``gate`` is added to the second target. Gradients that have a target are returned as None.
    """
    (grad_x, grad_gate), of_parameters = targets, []
    remaining, adds = iter(kept), False
    for group in unpack_groups(parameters, corners):
        between, count = next(remaining), 2 if group.keeps_projections() else 0
        of_rows, of_columns = (tuple(islice(remaining, count)) for _ in range(2))
        grad_between, new_gate, *grad_columns = ssm_backward(
            *(kernels, grad_y, (between, gate, *group.columns), group.corners.second, 'output'),
            *(reduction, log_A, of_columns, (None, grad_gate, grad_gate is not None)),
        )
        assert grad_between is not None
        new_x, _, *grad_rows = ssm_backward(
            *(kernels, grad_between, (x, None, *group.rows), group.corners.first, 'input', 'none'),
            *(log_A, of_rows, (grad_x, None, adds)),
        )
        grad_x = new_x if grad_x is None else grad_x
        grad_gate = new_gate if grad_gate is None else grad_gate
        adds = True
        of_parameters += [*grad_rows, *grad_columns]
    return *new_ones((grad_x, grad_gate), targets), *of_parameters
