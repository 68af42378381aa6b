"""Which kernels the operators are put together from."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from .conv import convs_backward, convs_forward
from .conv_gradients import ConvGradients
from .conv_projection import convs_project
from .expansion import expand
from .projection import Projected, project
from .scan import scans_forward
from .scan_backward import scans_backward
from .sums import SumRows, sum_rows

__all__ = ['TRITON', 'KernelSet']


class KernelSet(NamedTuple):
    """Functions that launch kernels, each like Triton's of its name.

    ``adds_through(x, x_proj)`` says whether ``convs_backward`` also takes, as ``through``, what
    gradients get through the projection of ``x_proj``; Triton's does not.
    """

    convs_forward: Callable[..., Tensor]
    convs_backward: Callable[..., ConvGradients]
    adds_through: Callable[[Tensor, Tensor], bool]
    project: Callable[..., Projected]
    expand: Callable[..., Tensor]
    convs_project: Callable[..., tuple[Tensor, Projected]]
    scans_forward: Callable[..., Tensor]
    scans_backward: Callable[..., dict[str, Any]]
    sum_rows: SumRows


TRITON = KernelSet(
    convs_forward,
    convs_backward,
    lambda x, x_proj: False,
    project,
    expand,
    convs_project,
    scans_forward,
    scans_backward,
    sum_rows,
)
