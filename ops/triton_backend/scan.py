"""The arguments of the scan kernels, and launching the forward one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from torch import Tensor

from .gate import gate_forward
from .kernels.scan_forward import scan_forward_kernel
from .launch import launch
from .layout import Grid, check_into, even_parts, group_directions, token_layout
from .segments import plan_segments, segment_states

__all__ = ['ScanInputs', 'make_output', 'scans_forward']

CHANNELS = 64
"""Channels of a program, a warp: two a thread, which share what it loads of a token."""

STRETCH = 8
"""Tokens whose loads a program has under way together, at most."""


@dataclass
class ScanInputs:
    """Arguments of the scans, which share all parameters.

    Attributes:
        x: (K, B, H, W, E), a map for each direction.
        delta: Like ``x``.
        A: (E, N), float32.
        B: None (the constant 1), (E, N) in float32, or (K, B, H, W, N).
        C: Likewise.
        D: (E,), float32, or None.
        delta_bias: (E,), float32, or None.
        softplus: ``'none'``, ``'apply'``, or ``'applied'`` if delta has been through bias and
            softplus already; its gradient is nevertheless that of before.
        directions: K names of directions.
        log_A: Whether ``A`` is the logarithm of what is meant, but for the sign; its gradient is
            likewise.
        z: Gate of the output, (B, H, W, E), of a single direction or of the sum over several; or
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
    directions: Sequence[str]
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
        self.z, self.z_token = (None, 0) if self.z is None else token_layout(self.z)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The kernels' first arguments."""
        return (
            *(self.x, self.delta, self.delta_bias),
            *(self.rates(), self.B, self.C, self.D),
        )

    def through(self, z: Tensor | None) -> 'ScanInputs':
        """The scan with another gate, or without."""
        return replace(self, z=z)

    def rates(self) -> Tensor:
        """A itself, (E, N)."""
        return -self.A.exp() if self.log_A else self.A

    def distances(self) -> tuple[int, ...]:
        """Elements between tokens, as the kernels take them."""
        return self.x_token, self.delta_token, self.B_token, self.C_token

    def options(self) -> dict[str, Any]:
        """What a kernel is compiled for."""
        return dict(
            B_KIND=self.B_kind,
            C_KIND=self.C_kind,
            HAS_D=self.D is not None,
            HAS_BIAS=self.delta_bias is not None,
            SOFTPLUS=self.softplus,
            STATES=triton.next_power_of_2(self.states),
        )


def _projection(value: Tensor | None) -> tuple[Tensor | None, int, str]:
    if value is None:
        return None, 0, 'one'
    if value.dim() == 2:
        return value.contiguous(), 0, 'constant'
    value, distance = token_layout(value)
    return value, distance, 'token'


def scans_forward(
    inputs: ScanInputs,
    sums: bool = False,
    dtype: torch.dtype | None = None,
    into: Tensor | None = None,
) -> Tensor:
    """Scan in several directions.

    Args:
        inputs: See :class:`ScanInputs`.
        sums: Return the sum over directions instead of each output.
        dtype: Of the result; by default that of ``x``.
        into: What the sum is added to in place, before it goes through the gate, and returned: like
            the result, contiguous; or None.

    Returns:
        (K, B, H, W, E), or (B, H, W, E) if ``sums``.

    Raises:
        ValueError: If ``into`` is not like the sum, or there is none.
    """
    if inputs.z is not None:
        return _scan_through_gate(inputs, sums, into)
    grid, directions = inputs.grid, inputs.directions
    y = make_output(inputs, sums, dtype, into)
    if not y.numel():
        return y
    segments = plan_segments(inputs)
    start = None if segments is None else segment_states(inputs, segments)
    for turn, group in enumerate(group_directions(directions)):
        number, steps = segments or (1, group.length(grid))
        programs = group.lanes(grid) * number * triton.cdiv(grid.channels, CHANNELS)
        launch(
            scan_forward_kernel,
            (programs, 1 if sums else group.directions),
            *inputs.tensors(),
            start,
            y,
            group.length(grid),
            grid.width,
            grid.tokens,
            grid.channels,
            inputs.states,
            *inputs.distances(),
            group.packed,
            group.reverse,
            int(group.along_h),
            int(turn > 0 or into is not None),
            number,
            steps,
            DIRECTIONS=group.directions,
            SUMS=sums,
            **inputs.options(),
            STRETCH=even_parts(steps, STRETCH),
            BLOCK_E=CHANNELS,
            num_warps=1,
        )
    return y


def _scan_through_gate(inputs: ScanInputs, sums: bool, into: Tensor | None) -> Tensor:
    assert inputs.z is not None
    # What the gate brings back into half precision's range may be outside before.
    dtype = torch.float32 if into is None else None
    ungated = scans_forward(inputs.through(None), sums, dtype, into)
    gated = gate_forward(ungated if sums else ungated[0], inputs.z)
    if into is not None:
        return into.copy_(gated)
    return gated if sums else gated[None]


def make_output(
    inputs: ScanInputs, sums: bool, dtype: torch.dtype | None, into: Tensor | None
) -> Tensor:
    """What :func:`scans_forward` returns, not filled in yet; raises what that says."""
    shape = tuple(inputs.grid) if sums else (len(inputs.directions), *inputs.grid)
    dtype = dtype or inputs.x.dtype
    if into is None:
        return torch.empty(shape, dtype=dtype, device=inputs.x.device)
    if not sums:
        raise ValueError('only sums over directions are added to what is there')
    check_into(into, shape, dtype)
    if not into.is_contiguous():
        raise ValueError(f'sums are added to contiguous maps only, but strides are {into.stride()}')
    return into
