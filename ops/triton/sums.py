"""Sums of partial sums."""

from collections.abc import Sequence

from torch import Tensor

__all__ = ['sum_rows']


def sum_rows(partial: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Sum each tensor over its first axis, in a fixed order; None stays None."""
    return [None if p is None else p.sum(0) for p in partial]
