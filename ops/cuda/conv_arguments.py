"""The inputs of a convolution, as arguments of its kernels in CUDA C++."""

import ctypes
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ..gpu.maps import Grid, token_layout, without_gaps
from ..runtime.launch import address
from .arguments import MOST_WARPS, NUMBERS, choose_warps, loads_at_once, within_reach

__all__ = ['Conv', 'ConvInputs', 'ConvWalks', 'takes_conv']

INSTRUCTIONS_ASIDE = 0.75
"""Constant cost of a step, in units of the cost of one channel.

It decides on the number of channels that a thread holds.
"""


class Conv(ctypes.Structure):
    """The structure ``Conv`` in conv.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ('x', 'gate', 'weight', 'bias')),
        *((name, ctypes.c_int) for name in ('x_token', 'gate_token')),
        ('x_direction', ctypes.c_longlong),
    ]


def takes_conv(x: Tensor) -> bool:
    """Whether the kernels of the convolution support a map, whose offsets have to fit 32 bits."""
    return within_reach(Grid.of(x), 2 * x.shape[-1])  # gates are halves of wider maps


class ConvInputs:
    """Map, gate, taps and bias of a convolution.

    Attributes:
        grid: The map's sizes.
        taps: Number of taps.
        maps: The map and the gate, each with the elements from one token to the next.
        definitions: Names and values for which all its kernels are compiled.

    Args:
        x: (B, H, W, E), or (K, B, H, W, E).
        gate: (B, H, W, E) or None.
        weight: (E, taps).
        bias: (E,) or None.
    """

    def __init__(self, x: Tensor, gate: Tensor | None, weight: Tensor, bias: Tensor | None) -> None:
        self.grid, self.taps = Grid.of(x), weight.shape[1]
        self.maps: list[tuple[Tensor | None, int]] = [
            token_layout(x),
            (None, 0) if gate is None else token_layout(gate),
        ]
        self._weight, self._bias = without_gaps(weight, bias)
        self._shared = x.dim() == 4
        self.definitions: dict[str, Any] = dict(
            NUMBER=NUMBERS[x.dtype],
            TAPS=self.taps,
            HAS_GATE=gate is not None,
            HAS_BIAS=bias is not None,
        )

    def arguments(self) -> Conv:
        """The structure that the kernels take."""
        (x, x_token), (gate, gate_token) = self.maps
        pointers = map(address, (x, gate, self._weight, self._bias))
        x_direction = 0 if self._shared else self.grid.tokens * x_token
        return Conv(*pointers, x_token, gate_token, x_direction)


class ConvWalks(ConvInputs):
    """Inputs of kernels whose warps walk along lanes, each with a group of channels.

    Attributes:
        warps: Warps of a block, side by side along the channels.
        groups: Number of such blocks that all channels need.
        held: Channels that a thread holds.

    Args:
        *inputs: Arguments of :class:`ConvInputs`.
        holds: Numbers of channels that a thread may hold.
        slack: The first number of ``holds`` is chosen if its instructions are at most this many
            times those of the best number, so that more stages share a kernel.
    """

    def __init__(self, *inputs: Any, holds: Iterable[int], slack: float = 1.0) -> None:
        super().__init__(*inputs)
        channels = self.grid.channels
        costs = {held: -(-channels // (32 * held)) * (held + INSTRUCTIONS_ASIDE) for held in holds}
        self.held = next(iter(costs))
        if costs[self.held] > slack * min(costs.values()):
            self.held = min(costs, key=lambda held: costs[held])
        columns = -(-channels // (32 * self.held))
        self.warps = choose_warps(columns)
        self.groups = -(-columns // self.warps)

    def compiled_for(
        self,
        steps: int,
        *others: tuple[Tensor | None, int],
        idle_leave: bool = False,
        **more: Any,
    ) -> tuple[tuple[str, Any], ...]:
        """All names and values for which a kernel is compiled.

        Args:
            steps: Tokens that a thread loads at the same time.
            others: Further maps that the kernel uses, each as in ``maps``.
            idle_leave: Whether threads without channels leave at once.
            more: Further names and values.
        """
        channels = self.grid.channels
        vectors = loads_at_once(self.held, [*self.maps, *others]) and channels % self.held == 0
        whole = idle_leave or channels % (32 * self.held * self.warps) == 0
        values = dict(
            self.definitions,
            CHANNELS_HELD=self.held,
            WHOLE_CHANNELS=vectors and whole,
            VECTORS=vectors,
            STEPS=steps,
            WARPS=MOST_WARPS,
            **more,
        )
        return tuple(values.items())
