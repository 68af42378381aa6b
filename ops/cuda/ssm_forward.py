"""Convolution, projections and scan of single states in one kernel: arguments and launch."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from ..directions import Direction
from ..gpu.maps import AxisWalks, by_axis, without_gaps
from ..gpu.scan_inputs import make_output
from ..runtime.compile import Definitions
from ..runtime.hardware import hardware_of
from ..runtime.launch import Launch, address, launch, multiprocessors
from ..ssm_tensors import SSMTensors
from .arguments import loads_at_once, make_map, within_reach
from .conv_arguments import ConvInputs

__all__ = ['ssm_at_once']

CHUNK = 16
"""Tokens of a lane that a block works on together."""

THREADS = 192
"""Fewest threads of a block. Each thread has two channels of a lane."""

BLOCKS = {False: 4, True: 3}
"""Most blocks of a multiprocessor, by whether there are earlier sums in registers."""

LEAST_BLOCKS = 2
"""Fewest blocks for which a multiprocessor must have room.

A single block waits at its barriers, so that separate kernels are faster.
"""

MOST_TAPS = 5

LONG = 4096
"""Longest lanes, in tokens, that are left whole if there are few of them.

Other kernels cut longer lanes into segments.
"""


class Walked(ctypes.Structure):
    """The structure ``Walked`` in ssm_forward.cu."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('x_proj', 'dt_proj', 'dt_bias', 'A', 'D')),
        *((name, ctypes.c_void_p) for name in ('low_rank', 'side', 'y')),
    ]


def ssm_at_once(
    given: SSMTensors,
    directions: Sequence[Direction],
    projects: str,
    reduction: str,
    log_A: bool,
    add_to: Tensor | None,
    keeps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :meth:`mmv2m.ops.gpu.kernels.Kernels.ssm_at_once`.

    The kernel supports maps in half precision with parameters in float32. The biases of time steps
    have to begin at a multiple of 8 bytes. There may be 2 to 5 taps, no gate, one state and one
    projected side. The number of channels has to be a multiple of 32, and shared memory has to have
    room for the weights, tokens and time steps of two blocks. On an H100, it has room for three
    blocks of 384 channels if R is 24. Lanes of more than 4,096 tokens are left to kernels that cut
    them, unless there are enough lanes for all multiprocessors.
    """
    if given.conv() is None or given.gate is not None or projects not in ('input', 'output'):
        return NotImplemented
    walk = _Walk(given, directions, projects, reduction == 'sum', log_A, keeps)
    if not walk.is_taken():
        return NotImplemented
    y, low_rank, side = walk.allocate(add_to)
    if y.numel():
        for call in walk.calls(y, low_rank, side, add_to is not None):
            launch(call, y.device)
    return y, low_rank, side


class _Walk:
    def __init__(
        self,
        given: SSMTensors,
        directions: Sequence[Direction],
        projects: str,
        sums: bool,
        log_A: bool,
        keeps: bool,
    ) -> None:
        conv = given.conv()
        assert conv is not None
        self.x, self.inputs = given.x, ConvInputs(*conv)
        self.walks, self.axes = directions, by_axis(directions)
        self.x_proj, self.dt_proj = given.x_proj.contiguous(), given.dt_proj.contiguous()
        self.others = tuple(without_gaps(given.dt_bias, given.A, given.D))
        self.states = given.A.shape[1]
        self.options = dict(PROJECTS_INPUT=projects == 'input', SUMS=sums, KEEPS=keeps, LOG_A=log_A)
        self.sums, self.keeps = sums, keeps
        self.rank = self.dt_proj.shape[1]
        pairs = self.inputs.grid.channels // 2
        self.lanes = max(1, -(-THREADS // pairs)) if pairs else 1
        self.threads = pairs * self.lanes

    def is_taken(self) -> bool:
        grid, taps = self.inputs.grid, self.inputs.taps
        parameters = (self.x_proj, self.dt_proj, *self.others)
        return (
            self.x.dtype in (torch.bfloat16, torch.float16)
            and all(p is None or p.dtype == torch.float32 for p in parameters)
            and self.states == 1
            and self.x_proj.shape[0] == self.rank + 1
            and 1 < taps <= MOST_TAPS
            and grid.channels % 32 == 0
            and self.threads <= 1024
            and self.threads % 32 == 0
            and loads_at_once(2, [*self.inputs.maps, (self.others[0], grid.channels)])
            and within_reach(grid, max(grid.channels, self.inputs.maps[0][1]))
            and self._resident() >= LEAST_BLOCKS
            and all(self._fills(axis) for axis in self.axes)
        )

    def _fills(self, axis: AxisWalks) -> bool:
        """Whether lanes are short, or numerous enough to fill the GPU."""
        grid = self.inputs.grid
        return axis.length(grid) <= LONG or self._units(axis) >= multiprocessors(self.x.device)

    def _units(self, axis: AxisWalks) -> int:
        """Units of work, one for a block each, in every row of the grid."""
        return -(-axis.lanes(self.inputs.grid) // self.lanes)

    def _grid(self, axis: AxisWalks) -> tuple[int, int]:
        rows = 1 if self.sums else len(axis.members)
        most = self._resident() * multiprocessors(self.x.device)
        return min(self._units(axis), max(1, most // rows)), rows

    def allocate(self, add_to: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Allocate the output, and low-rank time steps and sides, which are empty if not kept."""
        x = self.x
        y = make_output(x, len(self.walks), self.sums, None, add_to)
        count = (len(self.walks), *self.inputs.grid[:3]) if self.keeps else (0,)
        return y, x.new_empty((*count, self.rank)), x.new_empty((*count, 1), dtype=torch.float32)

    def calls(self, y: Tensor, low_rank: Tensor, side: Tensor, adds: bool) -> list[Launch]:
        """One launch for each axis, since sums have an order."""
        parameters = (self.x_proj, self.dt_proj, *self.others)
        walked = Walked(*map(address, (*parameters, low_rank, side, y)))
        return [
            Launch(
                'ssm_forward.cu',
                self._definitions(),
                self._grid(axis),
                self.threads,
                self._shared_bytes(),
                (
                    self.inputs.arguments(),
                    walked,
                    make_map(self.inputs.grid, axis.walks),
                    ctypes.c_uint(sum(k << 4 * i for i, k in enumerate(axis.members))),
                    ctypes.c_int(adds or i > 0),
                ),
            )
            for i, axis in enumerate(self.axes)
        ]

    def _resident(self) -> int:
        """Blocks for which a multiprocessor has room."""
        hardware = hardware_of(self.x.device)
        by_memory = hardware.shared_bytes // (self._shared_bytes() + hardware.reserved_bytes)
        by_threads = THREADS * BLOCKS[self.sums] // self.threads
        return min(by_memory, by_threads)

    def _definitions(self) -> Definitions:
        channels = self.inputs.grid.channels
        values = dict(
            self.inputs.definitions,
            CHANNELS_HELD=2,
            WHOLE_CHANNELS=True,
            VECTORS=True,
            CHANNELS=channels,
            RANK=self.rank,
            LANES=self.lanes,
            WARPS=self.threads // 32,
            BLOCKS=self._resident(),
            HAS_D=self.others[-1] is not None,
            **self.options,
        )
        return tuple(values.items())

    def _shared_bytes(self) -> int:
        """Bytes of ``Shared`` in the kernel."""
        channels, rank = self.inputs.grid.channels, -(-self.rank // CHUNK) * CHUNK
        outputs = -(-(self.rank + 1) // 8) * 8
        weights = 2 * channels * (outputs + rank)
        rows = 2 * CHUNK * (2 * (channels + 8) + rank + 8)
        return -(-(weights + self.lanes * (rows + 4 * CHUNK + 8 + 4)) // 16) * 16
