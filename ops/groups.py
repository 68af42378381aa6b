"""Groups of corners with their parameters, as arguments of the 2D SSM's operators."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .directions import Corner, CornerGroup, get_direction, read_corners, write_corners

__all__ = ['PARAMETERS', 'Group', 'Halves', 'pack_groups', 'unpack_groups']

PARAMETERS = 7
"""Number of tensors that are one scan's parameters, from ``conv_weight`` to ``D``."""

STATES_KEPT = 1
"""States per channel up to which the projections of each token are kept for the backward pass.

They take 3 to 8% of a map in the pyramids. With 16 states, they would take a tenth.
"""


class Group(NamedTuple):
    """Corners that share parameters, and the parameters (V2M, Eq. 7-15).

    Attributes:
        rows: Parameters of the first scans: ``conv_weight, conv_bias, x_proj, dt_proj, dt_bias, A,
            D``, as :func:`mmv2m.ops.directional_ssm` takes them.
        columns: Parameters of the second scans, in the same order.
        corners: The corners, K of them.
    """

    rows: Sequence[Any]
    columns: Sequence[Any]
    corners: CornerGroup

    def keeps_projections(self) -> bool:
        """Whether projections of tokens, except for expanded time steps, are kept for gradients."""
        return all(half[5].shape[-1] <= STATES_KEPT for half in (self.rows, self.columns))


def Halves(  # noqa: N802 - it was a class in earlier versions
    rows: Sequence[Any], columns: Sequence[Any], first: Sequence[str], second: Sequence[str]
) -> Group:
    """Make a :class:`Group` from the names of the directions of its first and second scans.

    Args:
        rows: Parameters of the first scans.
        columns: Parameters of the second scans.
        first: Direction of each first scan.
        second: Direction of each second scan.

    Raises:
        ValueError: If a direction is unknown, there is none, or the numbers of first and second
            directions differ.
    """
    for names in (first, second):
        if isinstance(names, str) or not names:
            raise ValueError(f'directions must be a sequence of names, but got {names!r}')
    if len(first) != len(second):
        raise ValueError(
            'there must be a second direction for each first one, but there are '
            f'{len(first)} and {len(second)}'
        )
    ways = zip(map(get_direction, first), map(get_direction, second), strict=True)
    return Group(rows, columns, CornerGroup(tuple(Corner(*pair) for pair in ways)))


def pack_groups(groups: Sequence[Group]) -> tuple[list[Tensor | None], str]:
    """Put the parameters of all groups in one list, and write their corners as text."""
    parameters = [p for group in groups for half in (group.rows, group.columns) for p in half]
    return parameters, write_corners(group.corners.corners for group in groups)


def unpack_groups(parameters: Sequence[Tensor | None], corners: str) -> Iterator[Group]:
    """Undo :func:`pack_groups`."""
    for i, group in enumerate(read_corners(corners)):
        middle = (2 * i + 1) * PARAMETERS
        rows = parameters[middle - PARAMETERS : middle]
        yield Group(rows, parameters[middle : middle + PARAMETERS], group)
