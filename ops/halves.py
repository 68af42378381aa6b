"""Routes of the 2D SSM that share parameters, and several of them as one operator's arguments."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

__all__ = ['Halves', 'pack_groups', 'unpack_groups']

PARAMETERS = 7
"""Of a half, from ``conv_weight`` to ``D``."""

STATES_KEPT = 1
"""Up to so many states, what a projection makes of a token is so little that the backward pass is
left it: 3 to 8% of a map in the pyramids. With 16, it would be a tenth."""


class Halves(NamedTuple):
    """A group of K routes from corners: along one axis, then along the other (V2M, Eq. 7-15).

    Attributes:
        rows: ``conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A, D`` of the first half, as
            :func:`mmv2m.ops.directional_ssm` takes them.
        columns: Those of the second half.
        first: Directions of the first half's scans, K.
        second: Those of the second half's.
    """

    rows: Sequence[Any]
    columns: Sequence[Any]
    first: Sequence[str]
    second: Sequence[str]

    def keeps_projections(self) -> bool:
        """Whether what the projections make of each token, but for time steps, is kept."""
        return all(half[5].shape[-1] <= STATES_KEPT for half in (self.rows, self.columns))


def pack_groups(groups: Sequence[Halves]) -> tuple[list[Tensor | None], str, str]:
    """The parameters of all groups, and both halves' directions with commas and semicolons."""
    parameters = [p for group in groups for half in (group.rows, group.columns) for p in half]
    first, second = (
        ';'.join(','.join(ways) for ways in halves)
        for halves in ((group.first for group in groups), (group.second for group in groups))
    )
    return parameters, first, second


def unpack_groups(parameters: Sequence[Tensor | None], first: str, second: str) -> Iterator[Halves]:
    """Undo :func:`pack_groups`."""
    ways = zip(first.split(';'), second.split(';'), strict=True)
    for i, (one, other) in enumerate(ways):
        middle = (2 * i + 1) * PARAMETERS
        rows = parameters[middle - PARAMETERS : middle]
        columns = parameters[middle : middle + PARAMETERS]
        yield Halves(rows, columns, one.split(','), other.split(','))
