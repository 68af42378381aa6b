"""The convolutions and the projection of their results in one kernel: arguments and launch."""

import ctypes
from collections.abc import Sequence

from torch import Tensor

from ..directions import Direction
from ..gpu.projections import Projected, Sizes
from ..runtime.launch import Launch, address, launch, multiprocessors
from . import projection
from .arguments import make_map
from .conv_arguments import ConvInputs, takes_conv
from .projection import GROUP, Projection

__all__ = ['convs_project']

TOKENS_HELD = 4
"""Tokens of a lane that a thread convolves, an even number."""

SEGMENTS = 8
"""Pieces of ``TOKENS_HELD`` tokens that a warp works on together."""

CHANNELS_AT_ONCE = {False: 4, True: 2}
"""Channels, of its 8, that a thread convolves together, by whether there is a gate."""

AHEAD = 1
"""Groups of channels that a thread loads ahead."""

WARPS = {2: 16, 5: 12, 8: 8}
"""Warps of a block, by the number of parts up to which there are enough registers for them.

Each multiprocessor has one block.
"""

LEAST_UNITS = 16
"""Units of work, one for a warp each, that every multiprocessor must have.

With fewer units, two separate kernels that have more of them are faster, by up to 28% on an H100.
"""


def convs_project(
    x: Tensor,
    gate: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    directions: Sequence[Direction],
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    states: int,
) -> tuple[Tensor, Projected]:
    """See :meth:`mmv2m.ops.gpu.kernels.Kernels.convs_project`.

    The convolved map is written, but not read again. The results equal those of the two separate
    kernels to the bit. This kernel supports inputs that both separate kernels in CUDA C++ support
    and that are large enough to fill the GPU. Maps and gates have to begin at multiples of 16
    bytes, and there may be 2 to 5 taps. The projection's shared memory has to have room for 4 more
    bytes per tap and bias of a channel. A single state without a gate is left to
    :mod:`.ssm_forward`, or, in the last stages of pyramids, whose maps are small, to the separate
    kernels.
    """
    call = _Call(
        ConvInputs(x, gate, weight, bias),
        directions,
        (x_proj, dt_proj, dt_bias),
        Sizes.of(x, x_proj, dt_proj, states),
    )
    if not call.is_taken(x):
        return NotImplemented
    y = x.new_empty((len(directions), *call.inputs.grid))
    results = call.sizes.allocate(y)
    if call.sizes.tokens:
        launch(call.launch(y, results), x.device)
    return y, call.sizes.projected(*results)


class _Call:
    def __init__(
        self,
        inputs: ConvInputs,
        directions: Sequence[Direction],
        parameters: tuple[Tensor, Tensor, Tensor],
        sizes: Sizes,
    ) -> None:
        self.inputs = inputs
        self.walks = directions
        x_proj, dt_proj, dt_bias = parameters
        self.parameters = (x_proj.contiguous(), dt_proj.contiguous(), dt_bias.contiguous())
        self.sizes = sizes._replace(tokens=len(directions) * inputs.grid.tokens)

    def is_taken(self, x: Tensor) -> bool:
        return (
            1 < self.inputs.taps <= TOKENS_HELD + 1
            and (self.inputs.definitions['HAS_GATE'] or self.sizes.states * self.sizes.sides > 1)
            and self._units() >= LEAST_UNITS * multiprocessors(x.device)
            and takes_conv(x)
            and projection.takes_projection(
                *(self.sizes, self.inputs.maps, self.parameters, WARPS), self._more_shared_bytes()
            )
        )

    def _units(self) -> int:
        """Units of work, one for a warp each."""
        return -(-self.sizes.tokens // (TOKENS_HELD * SEGMENTS))

    def _more_shared_bytes(self) -> int:
        """Bytes of ``Filters`` in conv_projection.cu."""
        return -(-self.sizes.channels // GROUP) * GROUP * 4 * (self.inputs.taps + 1)

    def launch(self, y: Tensor, results: tuple[Tensor, Tensor, Tensor]) -> Launch:
        channels = self.sizes.channels
        warps = projection.choose_warps(self.sizes, WARPS)
        definitions = dict(
            projection.definitions(self.sizes, y.dtype) | self.inputs.definitions,
            CHANNELS_HELD=8,
            WHOLE_CHANNELS=channels % GROUP == 0,
            VECTORS=True,
            TOKENS_HELD=TOKENS_HELD,
            CHANNELS_AT_ONCE=CHANNELS_AT_ONCE[self.inputs.definitions['HAS_GATE']],
            AHEAD=AHEAD,
            WARPS=warps,
        )
        return Launch(
            'conv_projection.cu',
            tuple(definitions.items()),
            (min(self._units(), multiprocessors(y.device)), 1),
            32 * warps,
            projection.shared_bytes(self.sizes) + self._more_shared_bytes(),
            (
                self.inputs.arguments(),
                ctypes.c_void_p(address(y)),
                Projection(*map(address, (*self.parameters, *results))),
                make_map(self.inputs.grid, self.walks),
            ),
        )
