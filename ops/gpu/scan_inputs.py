"""The arguments of the scan kernels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..directions import Direction
from .maps import Grid, check_target, token_layout, without_gaps

__all__ = ['ScanInputs', 'gradient_buffers', 'make_output']


@dataclass
class ScanInputs:
    """Arguments of scans in several directions, which share all parameters.

    Attributes:
        x: (K, B, H, W, E), a map for each direction.
        delta: Like ``x``.
        A: (E, N), float32.
        B: None for the constant 1, (E, N) in float32, or (K, B, H, W, N).
        C: Like ``B``.
        D: (E,), float32, or None.
        delta_bias: (E,), float32, or None.
        softplus: ``'none'``; ``'apply'``; or ``'applied'`` if bias and softplus have been applied
            to ``delta`` already. Even then, its gradient is taken before bias and softplus.
        directions: K directions.
        log_A: Whether ``A`` stands for ``-exp(A)``. The gradient is then taken with respect to
            ``A`` as it is given.
        z: Gate of the output, (B, H, W, E), for a single direction or for the sum over several; or
            None.
    """

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor | None
    C: Tensor | None
    D: Tensor | None
    delta_bias: Tensor | None
    softplus: str
    directions: Sequence[Direction]
    log_A: bool = False
    z: Tensor | None = None

    def __post_init__(self) -> None:
        self.grid = Grid.of(self.x)
        self.states = self.A.shape[1]
        self.x, self.x_token = token_layout(self.x)
        self.delta, self.delta_token = token_layout(self.delta)
        self.B, self.B_token, self.B_kind = _projection(self.B)
        self.C, self.C_token, self.C_kind = _projection(self.C)
        self.A = self.A.contiguous()
        self.D, self.delta_bias = without_gaps(self.D, self.delta_bias)
        self.z, self.z_token = (None, 0) if self.z is None else token_layout(self.z)

    def with_gate(self, z: Tensor | None) -> 'ScanInputs':
        """The scan with another gate, or without a gate."""
        return replace(self, z=z)

    def rates(self) -> Tensor:
        """The rates, (E, N), whether ``A`` is given by its logarithm or not."""
        return -self.A.exp() if self.log_A else self.A


def _projection(value: Tensor | None) -> tuple[Tensor | None, int, str]:
    if value is None:
        return None, 0, 'one'
    if value.dim() == 2:
        return value.contiguous(), 0, 'constant'
    value, distance = token_layout(value)
    return value, distance, 'token'


def make_output(
    x: Tensor, directions: int, sums: bool, dtype: torch.dtype | None, add_to: Tensor | None
) -> Tensor:
    """Allocate the result of :meth:`.kernels.Kernels.scans_forward`.

    Args:
        x: The scanned map or maps, (B, H, W, E) or (K, B, H, W, E).
        directions: Number of directions, K.
        sums: See :meth:`.kernels.Kernels.scans_forward`.
        dtype: See :meth:`.kernels.Kernels.scans_forward`.
        add_to: See :meth:`.kernels.Kernels.scans_forward`.

    Raises:
        ValueError: If ``add_to`` is not like the sum, or there is no sum.
    """
    grid = x.shape[-4:]
    shape, dtype = grid if sums else (directions, *grid), dtype or x.dtype
    if add_to is None:
        return torch.empty(shape, dtype=dtype, device=x.device)
    if not sums:
        raise ValueError('only sums over directions are added to what is there')
    check_target(add_to, shape, dtype)
    if not add_to.is_contiguous():
        raise ValueError(
            f'sums are added to contiguous maps only, but strides are {add_to.stride()}'
        )
    return add_to


def gradient_buffers(inputs: ScanInputs, rows: int, blocks: int) -> dict[str, Tensor | None]:
    """Allocate the results of :meth:`.kernels.Kernels.scans_backward`.

    Args:
        inputs: Inputs of the scan.
        rows: Number of partial sums for parameters, one for each block of threads along the lanes.
        blocks: Number of partial sums for B and C per token, one for each block of channels.
    """
    x, grid, count = inputs.x, inputs.grid, len(inputs.directions)

    def partial_sums(*shape: int) -> Tensor:
        return x.new_empty(shape, dtype=torch.float32)

    buffers: dict[str, Tensor | None] = dict(
        x=x.new_empty((count, *grid)),
        delta=x.new_empty((count, *grid)),
        z=None if inputs.z is None else x.new_empty(tuple(grid)),
        A=partial_sums(rows, grid.channels, inputs.states),
    )
    for name, kind in (('B', inputs.B_kind), ('C', inputs.C_kind)):
        if kind == 'token':
            buffers[name] = partial_sums(blocks, count, *grid[:3], inputs.states)
        else:
            constant = kind == 'constant'
            buffers[name] = partial_sums(rows, grid.channels, inputs.states) if constant else None
    for name in ('D', 'delta_bias'):
        absent = getattr(inputs, name) is None
        buffers[name] = None if absent else partial_sums(rows, grid.channels)
    return buffers
