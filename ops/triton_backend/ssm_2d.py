"""Both halves of the 2D SSM, of all groups of corners, on the kernels that serve one half."""

from collections.abc import Sequence
from itertools import islice

from torch import Tensor

from ..halves import unpack_groups
from .conv_gradients import made_anew
from .kernel_set import TRITON, KernelSet
from .ssm import ssm_backward, ssm_forward

__all__ = ['ssm_2d_backward', 'ssm_2d_forward']


def ssm_2d_forward(
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    reduction: str,
    log_A: bool,
    trains: bool = True,
    kernels: KernelSet = TRITON,
) -> tuple[Tensor | None, ...]:
    """See :func:`mmv2m.ops.ssm_2d`; groups are as :func:`.halves.pack_groups` leaves them.

    Args:
        x: As there, like the other arguments that it has.
        gate: As there.
        parameters: Of all groups.
        first: Directions of all groups.
        second: Likewise.
        reduction: As there.
        log_A: As there.
        trains: Whether there is going to be a backward pass. If not, nothing is kept for it, and
            the sum over all groups goes through the gate too, if there is one.
        kernels: What it is put together from.

    Returns:
        The output, and what is kept of each group: the maps between its halves and, if so, both
        halves' low-rank time steps and sides.
    """
    groups = list(unpack_groups(parameters, first, second))
    y: Tensor | None = None
    kept: list[Tensor | None] = []
    for group in groups:
        keeps = trains and group.keeps_projections()
        gates_sum = not trains and gate is not None and group is groups[-1]
        between, *ours = ssm_forward(
            *((x, None, *group.rows), group.first, 'input', 'none', log_A, None, keeps),
            kernels=kernels,
        )
        total, *theirs = ssm_forward(
            *((between, gate, *group.columns), group.second, 'output', reduction, log_A, y, keeps),
            gates_sum=gates_sum,
            kernels=kernels,
        )
        y = total if y is None else y
        if trains:
            kept += [between, *ours, *theirs]
    return y, *kept


def ssm_2d_backward(
    grad_y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    gate: Tensor | None,
    parameters: Sequence[Tensor | None],
    first: str,
    second: str,
    reduction: str,
    log_A: bool,
    into: tuple[Tensor | None, Tensor | None] = (None, None),
    kernels: KernelSet = TRITON,
) -> tuple[Tensor | None, ...]:
    """Gradients of ``x``, ``gate`` and the parameters.

    ``into`` is what the first takes the place of, and what the second is added to; None is returned
    of what is left there.
    """
    (grad_x, grad_gate), others = into, []
    remaining, adds = iter(kept), False
    for group in unpack_groups(parameters, first, second):
        between = next(remaining)
        ours, theirs = (
            tuple(islice(remaining, 2 if group.keeps_projections() else 0)) for _ in range(2)
        )
        grad_between, of_gate, *grad_columns = ssm_backward(
            grad_y,
            (between, gate, *group.columns),
            *(group.second, 'output', reduction, log_A, theirs),
            into=None if grad_gate is None else (None, grad_gate, True),
            kernels=kernels,
        )
        assert grad_between is not None
        of_x, _, *grad_rows = ssm_backward(
            grad_between,
            (x, None, *group.rows),
            *(group.first, 'input', 'none', log_A, ours),
            into=None if grad_x is None else (grad_x, None, adds),
            kernels=kernels,
        )
        grad_x = of_x if grad_x is None else grad_x
        grad_gate = of_gate if grad_gate is None else grad_gate
        adds = True
        others += [*grad_rows, *grad_columns]
    return *made_anew((grad_x, grad_gate), into), *others
