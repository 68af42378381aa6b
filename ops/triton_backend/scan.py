"""Launching the scan kernels, for one or several directions at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs

from .kernels.scan_backward import scan_backward_kernel
from .kernels.scan_forward import scan_forward_kernel
from .layout import DirectionGroup, Grid, group_directions, reverse_bits, token_layout

__all__ = ['ScanInputs', 'scan_backward', 'scan_forward', 'scans_backward', 'scans_forward']

LANES_PER_PROGRAM = 2
"""Lanes over which a program of the backward kernel sums parameter gradients in registers."""

FORWARD_CHANNELS = 64
"""Channels of a program of the forward kernel: one a thread."""

BACKWARD_CHANNELS = 32
"""Channels of a program of the backward kernel."""

BACKWARD_REGISTERS = None
"""Registers a thread of the backward kernel may use; None for as many as there are."""


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
        z: (B, H, W, E), or None.
        delta_bias: (E,), float32, or None.
        delta_softplus: Whether delta goes through a softplus.
        directions: K names of directions.
        out_directions: In which direction each output is written; normally the same.
    """

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor | None
    C: Tensor | None
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    delta_softplus: bool
    directions: Sequence[str]
    out_directions: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.grid = Grid.of(self.x)
        self.states = self.A.shape[1]
        self.x, self.x_token = token_layout(self.x)
        self.delta, self.delta_token = token_layout(self.delta)
        self.z_token = self.B_token = self.C_token = 0
        if self.z is not None:
            self.z, self.z_token = token_layout(self.z)
        self.B, self.B_token, self.B_kind = _projection(self.B)
        self.C, self.C_token, self.C_kind = _projection(self.C)
        self.A = self.A.contiguous()
        self.written = self.directions if self.out_directions is None else self.out_directions

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The kernels' first arguments."""
        return (
            *(self.x, self.delta, self.delta_bias),
            *(self.A, self.B, self.C, self.D, self.z),
        )

    def distances(self) -> tuple[int, ...]:
        """Elements between tokens, as the kernels take them."""
        return self.x_token, self.z_token, self.delta_token, self.B_token, self.C_token

    def options(self) -> dict[str, Any]:
        """What a kernel is compiled for."""
        return dict(
            B_KIND=self.B_kind,
            C_KIND=self.C_kind,
            HAS_D=self.D is not None,
            HAS_Z=self.z is not None,
            HAS_BIAS=self.delta_bias is not None,
            SOFTPLUS=self.delta_softplus,
            STATES=triton.next_power_of_2(self.states),
        )


def _projection(value: Tensor | None) -> tuple[Tensor | None, int, str]:
    if value is None:
        return None, 0, 'one'
    if value.dim() == 2:
        return value.contiguous(), 0, 'constant'
    value, distance = token_layout(value)
    return value, distance, 'token'


def scans_forward(inputs: ScanInputs, sums: bool = False) -> Tensor:
    """Scan in several directions.

    Args:
        inputs: See :class:`ScanInputs`.
        sums: Return the sum over directions instead of each output.

    Returns:
        (K, B, H, W, E), or (B, H, W, E) if ``sums``, in the dtype of ``x``.
    """
    grid, directions = inputs.grid, inputs.directions
    shape = tuple(grid) if sums else (len(directions), *grid)
    y = torch.empty(shape, dtype=inputs.x.dtype, device=inputs.x.device)
    if not y.numel():
        return y
    for turn, group in enumerate(group_directions(directions)):
        lanes = group.lanes(grid)
        programs = lanes * triton.cdiv(grid.channels, FORWARD_CHANNELS)
        scan_forward_kernel[(programs, 1 if sums else len(group.members))](
            *inputs.tensors(),
            y,
            lanes,
            group.length(grid),
            grid.width,
            grid.tokens,
            grid.channels,
            inputs.states,
            *inputs.distances(),
            group.packed,
            group.reverse,
            reverse_bits([inputs.written[k] for k in group.members]),
            ALONG_H=group.along_h,
            DIRECTIONS=len(group.members),
            SUMS=sums,
            ADDS=turn > 0,
            **inputs.options(),
            BLOCK_E=FORWARD_CHANNELS,
            num_warps=1,
        )
    return y


def scans_backward(
    grad_y: Tensor, inputs: ScanInputs, sums: bool = False
) -> dict[str, Tensor | None]:
    """Gradients of :func:`scans_forward`.

    Args:
        grad_y: Like its result.
        inputs: Its arguments; ``x`` must be one map a direction.
        sums: As there.

    Returns:
        Gradients by the names of :class:`ScanInputs`; that of ``delta`` is always
        (K, B, H, W, E), before bias and softplus, in the dtype of ``x``.
    """
    groups = group_directions(inputs.directions)
    buffers = _BackwardBuffers.make(inputs, [g.lanes(inputs.grid) for g in groups])
    if grad_y.numel():
        grad_y = grad_y.contiguous()
        for turn, group in enumerate(groups):
            _launch_backward(grad_y, inputs, sums, buffers, group, turn)
    return buffers.sum_up()


@dataclass
class _BackwardBuffers:
    """What the backward kernel writes: maps, and partial sums of the parameters' gradients.

    Attributes:
        maps: Gradients of x, delta and z.
        partial: Partial sums over their first axis: A, D and delta_bias with a row for each
            program along the lanes; B and C likewise if constant, with a row for each block of
            channels if not.
        rows: Where each group of directions begins among the rows.
    """

    maps: dict[str, Tensor | None]
    partial: dict[str, Tensor | None]
    rows: list[int]

    @classmethod
    def make(cls, inputs: ScanInputs, lanes: list[int]) -> '_BackwardBuffers':
        grid, x, z = inputs.grid, inputs.x, inputs.z
        rows = [0]
        for n in lanes:
            rows.append(rows[-1] + triton.cdiv(n, LANES_PER_PROGRAM))
        count, blocks = len(inputs.directions), triton.cdiv(grid.channels, BACKWARD_CHANNELS)

        def empty(*shape: int, dtype: torch.dtype = inputs.A.dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=x.device)

        matrix = (rows[-1], grid.channels, inputs.states)
        token = (blocks, count, *grid[:3], inputs.states)
        partial: dict[str, Tensor | None] = dict(A=empty(*matrix))
        for name, kind in (('B', inputs.B_kind), ('C', inputs.C_kind)):
            shape = token if kind == 'token' else matrix
            partial[name] = None if kind == 'one' else empty(*shape)
        for name in ('D', 'delta_bias'):
            absent = getattr(inputs, name) is None
            partial[name] = None if absent else empty(rows[-1], grid.channels)
        maps = dict(
            x=empty(count, *grid, dtype=x.dtype),
            delta=empty(count, *grid, dtype=x.dtype),
            z=None if z is None else empty(*grid, dtype=z.dtype),
        )
        return cls(maps, partial, rows)

    def of_group(self, name: str, turn: int) -> Tensor | None:
        """The rows that a launch writes; all of a projection's, which has no rows of its own."""
        value = self.partial[name]
        if value is None or value.dim() > 3:
            return value
        return value[self.rows[turn] : self.rows[turn + 1]]

    def sum_up(self) -> dict[str, Tensor | None]:
        """All gradients; in fixed order, so two runs agree to the bit."""
        summed = {name: None if p is None else p.sum(0) for name, p in self.partial.items()}
        return {**self.maps, **summed}


def _launch_backward(
    grad_y: Tensor,
    inputs: ScanInputs,
    sums: bool,
    buffers: _BackwardBuffers,
    group: DirectionGroup,
    turn: int,
) -> None:
    grid = inputs.grid
    blocks = triton.cdiv(grid.channels, BACKWARD_CHANNELS)
    programs = blocks * (buffers.rows[turn + 1] - buffers.rows[turn])
    options = inputs.options()
    chunk = chunk_steps(options['STATES'], group.length(grid))
    kept = (programs, triton.cdiv(group.length(grid), chunk), options['STATES'], BACKWARD_CHANNELS)
    scan_backward_kernel[(programs,)](
        grad_y,
        *inputs.tensors(),
        # The first and the last chunk of a lane need no checkpoint.
        torch.empty(kept if kept[1] > 2 else 1, dtype=torch.float32, device=grad_y.device),
        buffers.maps['x'],
        buffers.maps['delta'],
        *(buffers.of_group(name, turn) for name in ('A', 'B', 'C', 'D')),
        buffers.maps['z'],
        buffers.of_group('delta_bias', turn),
        group.lanes(grid),
        LANES_PER_PROGRAM,
        group.length(grid),
        grid.width,
        grid.tokens,
        len(inputs.directions),
        grid.channels,
        inputs.states,
        *inputs.distances(),
        group.packed,
        group.reverse,
        reverse_bits([inputs.written[k] for k in group.members]),
        ALONG_H=group.along_h,
        DIRECTIONS=len(group.members),
        SHARED_Y=sums,
        ADDS=turn > 0,
        **options,
        FAST_SUMS=_fast_sums(inputs.x.dtype, options['STATES']),
        CHUNK=chunk,
        BLOCK_E=BACKWARD_CHANNELS,
        num_warps=1,
        maxnreg=BACKWARD_REGISTERS,
    )


def _fast_sums(dtype: torch.dtype, states: int) -> bool:
    """Whether sums over channels may use the matrix units; the interpreter has no bfloat16 dot."""
    return dtype != torch.float32 and states >= 16 and not knobs.runtime.interpret


def chunk_steps(states: int, length: int) -> int:
    """Steps whose states the backward kernel holds in registers: at most 8, few idle ones."""
    most = min(8, max(4, 80 // states))
    return triton.cdiv(length, triton.cdiv(length, most))


def scan_forward(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    direction: str,
) -> Tensor:
    """See :func:`mmv2m.ops.directional_scan`."""
    return scans_forward(
        _one_direction(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction)
    )[0]


def scan_backward(
    grad_y: Tensor,
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    direction: str,
) -> tuple[Tensor | None, ...]:
    """Gradients for ``x, delta, A, B, C, D, z, delta_bias``."""
    inputs = _one_direction(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction)
    grads = scans_backward(grad_y[None], inputs)
    given = dict(x=x, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias)
    pairs = ((value, grads[name]) for name, value in given.items())
    return tuple(
        None if value is None or grad is None else grad.reshape(value.shape).to(value.dtype)
        for value, grad in pairs
    )


def _one_direction(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor | None,
    C: Tensor | None,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    direction: str,
) -> ScanInputs:
    """A scan as the first of one direction: everything that has tokens gets a leading axis."""
    B, C = (p[None] if p is not None and p.dim() == 4 else p for p in (B, C))
    return ScanInputs(x[None], delta[None], A, B, C, D, z, delta_bias, delta_softplus, [direction])
