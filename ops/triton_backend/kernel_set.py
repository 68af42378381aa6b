"""Which kernels the operators are put together from."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from .conv import convs_backward, convs_forward
from .scan import scans_forward
from .scan_backward import scans_backward

__all__ = ['TRITON', 'KernelSet']


def sum_rows(partial: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Finish partial sums: over the first axis of each, in fixed order."""
    return [None if p is None else p.sum(0) for p in partial]


class KernelSet(NamedTuple):
    """Functions that launch kernels, each like Triton's of its name."""

    convs_forward: Callable[..., Tensor]
    convs_backward: Callable[..., tuple[Tensor, Tensor | None, Tensor, Tensor | None]]
    scans_forward: Callable[..., Tensor]
    scans_backward: Callable[..., dict[str, Any]]
    sum_rows: Callable[[Sequence[Tensor | None]], list[Tensor | None]]


TRITON = KernelSet(convs_forward, convs_backward, scans_forward, scans_backward, sum_rows)
