"""Finishing partial sums."""

from collections.abc import Callable, Sequence

from torch import Tensor

__all__ = ['SumRows', 'sum_rows']

SumRows = Callable[[Sequence[Tensor | None]], list[Tensor | None]]
"""A function like :func:`sum_rows`."""


def sum_rows(partial: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Sums over the first axis of each tensor, in fixed order."""
    return [None if p is None else p.sum(0) for p in partial]
