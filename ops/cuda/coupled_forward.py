"""The launches for the forward pass of the exact 2D recurrence in CUDA C++."""

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..runtime.launch import Launch, address, launch, multiprocessors
from .arguments import choose_warps
from .coupled_arguments import CoupledInputs, Edges, Maps, read_inputs

__all__ = ['clear_words', 'coupled_scans_forward', 'forward_call']

WARPS = 2
"""Most warps of a block."""

STATES_HELD = 4
"""Most states of a channel that a thread holds."""

WARPS_AT_ONCE = 12
"""Warps of a multiprocessor, for which there is enough shared memory."""

STEPS = 4
"""Tokens that a warp copies to shared memory at a time."""

THREADS = 256
"""Threads of a block that clears words."""


def coupled_scans_forward(*args: Any) -> Tensor:
    """Run :func:`mmv2m.ops.coupled_scan`, given its arguments without the backend."""
    inputs = read_inputs(STATES_HELD, *args)
    if inputs is None:
        return NotImplemented
    y = torch.empty_like(inputs.x)
    for call in _calls(inputs, y):
        launch(call, y.device)
    return y


def _calls(inputs: CoupledInputs, y: Tensor) -> Iterator[Launch]:
    warps = choose_warps(inputs.warps_of_channels, WARPS)
    blocks = -(-inputs.warps_of_channels // warps)
    slots = multiprocessors(y.device) * (WARPS_AT_ONCE // warps)
    maps = inputs.maps(inputs.choose_strip(inputs.images * blocks, slots), inputs.rows)
    edges = Edges(None, None, None, 2)
    if maps.strips > 1:
        lines = inputs.images * blocks * warps
        p = y.new_empty(2 * inputs.rows * lines * inputs.patch.warp_floats, dtype=torch.float32)
        done = y.new_empty(maps.strips * lines, dtype=torch.int32)
        edges = Edges(address(p), None, address(done), 2)
        yield clear_words(done)
    yield forward_call(inputs, maps, edges, warps, y)


def clear_words(words: Tensor) -> Launch:
    """Make a launch that sets words to zero, as replays of the operator can repeat it."""
    count = words.numel()
    arguments = (ctypes.c_void_p(address(words)), ctypes.c_int(count))
    grid = (min(-(-count // THREADS), 1024), 1)
    return Launch('clear_words.cu', (('THREADS', THREADS),), grid, THREADS, 0, arguments)


def forward_call(
    inputs: CoupledInputs, maps: Maps, edges: Edges, warps: int, y: Tensor | None
) -> Launch:
    """Make the launch of the forward kernel.

    Args:
        inputs: Inputs of the operator.
        maps: The maps, with strips and tiles.
        edges: Buffers for states that cross the edges of strips, and, without ``y``, the edges of
            tiles too.
        warps: Warps of a block.
        y: The map that is filled. Without it, the kernel saves the states at all edges instead.
    """
    patch = inputs.patch
    blocks = -(-inputs.warps_of_channels // warps)
    kept = [inputs.x, inputs.delta] if y is None else [inputs.x, inputs.delta, y]
    definitions = dict(
        inputs.definitions(warps, WARPS_AT_ONCE // warps, kept),
        SAVES=y is None,
        STEPS=STEPS,
    )
    of_warp = maps.strip * patch.warp_floats + 4 * STEPS * (patch.warp_channels + patch.states)
    return Launch(
        'coupled_forward.cu',
        tuple(definitions.items()),
        (maps.strips * inputs.images * blocks, 1),
        32 * warps,
        4 * warps * of_warp,
        (inputs.pack(), maps, edges, ctypes.c_void_p(address(y))),
    )
