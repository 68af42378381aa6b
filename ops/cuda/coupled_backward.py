"""The launches for the gradients of the exact 2D recurrence in CUDA C++."""

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..runtime.hardware import hardware_of
from ..runtime.launch import Launch, address, launch, multiprocessors
from .arguments import choose_warps
from .coupled_arguments import MOST_COLUMNS, MOST_ROWS, CoupledInputs, Edges, read_inputs
from .coupled_forward import clear_words, forward_call
from .sums import sum_rows

__all__ = ['coupled_scans_backward']

WARPS = 4
"""Most warps of a block."""

STATES_HELD = 4
"""Most states of a channel that a thread holds."""

WARPS_AT_ONCE = 8
"""Warps of a multiprocessor, for which there are enough registers and shared memory."""

SUMMED = ('A', 'weight', 'B', 'C', 'D', 'bias')


class Upstream(ctypes.Structure):
    """The structure ``Upstream`` in coupled_backward.cu."""

    _fields_ = [('y', ctypes.c_void_p), ('images', ctypes.c_int)]


class Gradients(ctypes.Structure):
    """The structure ``Gradients`` in coupled_backward.cu."""

    _fields_ = [(name, ctypes.c_void_p) for name in ('x', 'delta', *SUMMED)]


def coupled_scans_backward(grad_y: Tensor, *args: Any) -> tuple[Tensor | None, ...]:
    """Compute gradients of the arguments of :func:`.coupled_forward.coupled_scans_forward`.

    Returns:
        Gradients of ``x, delta, A, weight, B, C, D, delta_bias``, or None for arguments that are
        None. The first two have the dtype of ``x``, and the others are float32.
    """
    inputs = read_inputs(STATES_HELD, *args)
    if inputs is None:
        return NotImplemented
    # Behind a sum over corners, all corners have the same gradient, which is not copied.
    shared = grad_y.stride(0) == 0
    scan = _BackwardScan((grad_y[:1] if shared else grad_y).contiguous(), inputs)
    for call in scan.calls():
        launch(call, grad_y.device)
    found = scan.gradients
    summed = dict(zip(SUMMED, sum_rows([found[name] for name in SUMMED]), strict=True))
    return found['x'], found['delta'], *summed.values()


class _BackwardScan:
    """The launches of the kernels, and the buffers that they fill."""

    def __init__(self, grad_y: Tensor, inputs: CoupledInputs) -> None:
        self.inputs, self.grad_y, self.patch = inputs, grad_y, inputs.patch
        is_bfloat16 = grad_y.dtype == torch.bfloat16
        self.kept_as = torch.bfloat16 if is_bfloat16 else torch.float32  # KEPT in the kernel
        self.warps = choose_warps(inputs.warps_of_channels, WARPS)
        self.blocks = -(-inputs.warps_of_channels // self.warps)
        slots = multiprocessors(grad_y.device) * (WARPS_AT_ONCE // self.warps)
        of_strip = inputs.images * self.blocks
        tile, most = min(inputs.rows, MOST_ROWS), self._most_columns()
        self.maps = inputs.maps(inputs.choose_strip(of_strip, slots, most), tile)
        self.grid = min(slots, of_strip * self.maps.strips)
        self.gradients = self._gradient_buffers()
        self._make_edges()

    def _most_columns(self) -> int:
        """The most columns of a strip for which a block's shared memory has room."""
        none, one = (self._shared_bytes(strip) for strip in (0, 1))
        return (hardware_of(self.grad_y.device).shared_bytes_of_block - none) // (one - none)

    def _shared_bytes(self, strip: int) -> int:
        """Bytes of a block's shared memory, ``Memory`` in the kernel."""
        patch = self.patch
        floats = strip * (4 * patch.warp_channels + patch.warp_floats + 2 * patch.states)
        states = 2 * patch.warp_floats * self.kept_as.itemsize
        return 16 + 16 * strip * patch.states + self.warps * (4 * floats + states)

    def _floats(self, *shape: int) -> Tensor:
        return self.grad_y.new_empty(shape, dtype=torch.float32)

    def _gradient_buffers(self) -> dict[str, Tensor | None]:
        inputs, states = self.inputs, self.inputs.states
        channels, rows = inputs.grid.channels, self.maps.strips * inputs.images
        sides = (self.blocks, *inputs.x.shape[:-1], 2, states)
        return dict(
            x=torch.empty_like(inputs.x),
            delta=torch.empty_like(inputs.delta),
            A=self._floats(rows, 2, 2, channels, states),
            weight=self._floats(rows, 2, 2, channels),
            B=self._floats(*sides),
            C=self._floats(*sides),
            D=None if inputs.D is None else self._floats(rows, channels),
            bias=None if inputs.bias is None else self._floats(rows, 2, channels),
        )

    def _make_edges(self) -> None:
        """Allocate memory for states that cross edges, for words, and for the blocks' states."""
        maps, lines = self.maps, self.inputs.images * self.blocks * self.warps
        patch = self.patch.warp_floats
        line, words = lines * patch, maps.strips * lines
        self.words = self.grad_y.new_empty(2 * words + 1, dtype=torch.int32)
        # The last strip passes no states on to another strip, nor the last tile to another tile.
        sides = [
            (rows, -(-rows // maps.tile) - 1, -(-columns // maps.strip))
            for rows, columns in self.inputs.sides
        ]
        self.p = self._floats(max((strips - 1) * rows for rows, _, strips in sides) * line)
        self.q = self._floats(max(t * strips for _, t, strips in sides) * maps.strip * line)
        self.back = self._floats(2 * self.inputs.rows * line if maps.strips > 1 else 0)
        rows = self.grid * self.warps * maps.strip * patch
        self.kept = self.grad_y.new_empty(2 * maps.tile * rows, dtype=self.kept_as)
        self.leaving = self._floats(rows)

        def word(number: int) -> int | None:
            start = address(self.words)
            return None if start is None else start + 4 * number

        p, q, back = (address(t) if t.numel() else None for t in (self.p, self.q, self.back))
        # States that leave the last strip are not read, so they have no slot.
        self.edges = Edges(p, q, word(0), max(1, maps.strips - 1))
        self.edges_back = Edges(back, None, word(words), 2)
        self.taken = word(2 * words)

    def calls(self) -> Iterator[Launch]:
        """Launches of a forward walk that saves the edges, if there are any, and the walk back."""
        yield clear_words(self.words)
        if self.p.numel() or self.q.numel():
            yield forward_call(self.inputs, self.maps, self.edges, self.warps, None)
        yield self._call()

    def _call(self) -> Launch:
        inputs, maps = self.inputs, self.maps
        of_maps = (inputs.x, inputs.delta, self.grad_y)
        blocks = WARPS_AT_ONCE // self.warps
        definitions = inputs.definitions(self.warps, blocks, of_maps) | dict(COLUMNS=MOST_COLUMNS)
        arguments = (
            *(inputs.pack(), Upstream(address(self.grad_y), self.grad_y.shape[:2].numel())),
            Gradients(*(address(self.gradients[name]) for name in ('x', 'delta', *SUMMED))),
            *(maps, self.edges, self.edges_back),
            *map(ctypes.c_void_p, (address(self.kept), address(self.leaving), self.taken)),
        )
        return Launch(
            'coupled_backward.cu',
            tuple(definitions.items()),
            (self.grid, 1),
            32 * self.warps,
            self._shared_bytes(maps.strip),
            arguments,
        )
