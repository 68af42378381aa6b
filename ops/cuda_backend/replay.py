"""Running an operator by launching again what it launched before, with other addresses.

What an operator launches depends on the layout of its arguments alone. Working it out anew takes
Python some ten times as long as the launches themselves, and the GPU would wait for it.
"""

import ctypes
import functools
import logging
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..triton_backend.launch import listening
from .launch import on_stream
from .recording import Obstacle, Recorder, pointers_in

__all__ = ['Replay', 'replayed']

MOST_REPLAYS = 1024
"""Layouts of arguments that are remembered for an operator."""

ALIGNMENT = 512
"""Bytes; that of PyTorch's own allocations on GPUs."""


def replayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function that launches kernels run by :class:`Replay` from its second call on.

    Args:
        function: Takes tensors, numbers, strings, None and sequences of them, and returns a new
            tensor or a tuple of new tensors and None. It must do nothing that depends on the
            numbers in a tensor. If it does something besides launching, it always runs as it is.
    """
    replays: dict[tuple, Replay | None] = {}

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        tensors: list[Tensor] = []
        key = _describe(args, tensors)
        if key in replays:
            replay = replays[key]
            return function(*args) if replay is None else replay(tensors)
        if len({t.data_ptr() for t in tensors}) < len(tensors):
            return function(*args)  # which of them a launch means could not be told
        if len(replays) >= MOST_REPLAYS:
            replays.clear()
        result, replays[key] = _record(function, args, tensors)
        return result

    return run


def _describe(args: Sequence[Any], tensors: list[Tensor]) -> tuple:
    """All that launches depend on; collects the tensors on the way."""
    key: list[Any] = []
    for arg in args:
        if isinstance(arg, Tensor):
            tensors.append(arg)
            alignment = arg.data_ptr() % 16
            key.append((arg.get_device(), arg.dtype, arg.shape, arg.stride(), alignment))
        elif isinstance(arg, tuple | list):
            key.append(_describe(arg, tensors))
        else:
            key.append(arg)
    return tuple(key)


def _record(
    function: Callable[..., Any], args: tuple, tensors: list[Tensor]
) -> tuple[Any, 'Replay | None']:
    recorder = Recorder()
    with listening(recorder.hear), recorder:
        result = function(*args)
    try:
        return result, Replay(recorder, tensors, result)
    except Obstacle as obstacle:
        logging.getLogger('mmv2m').debug('%s is not replayed: %s', function, obstacle)
        return result, None


class _Patch(NamedTuple):
    """An address among a launch's arguments: where it lies, and which it is."""

    place: ctypes.c_uint64
    base: int
    offset: int


class _Output(NamedTuple):
    """A tensor to return."""

    size: torch.Size
    dtype: torch.dtype


class Replay:
    """What one run of an operator launched, ready to be launched again.

    Args:
        recorder: Has watched the run.
        inputs: The tensors among its arguments.
        result: What it returned.

    Raises:
        Obstacle: If launches alone would not repeat it.
    """

    def __init__(self, recorder: Recorder, inputs: list[Tensor], result: Any) -> None:
        if recorder.obstacle:
            raise Obstacle(recorder.obstacle)
        self.device, self.launches, self.lock = inputs[0].device, recorder.launches, Lock()
        self.single = isinstance(result, Tensor)
        results = (result,) if self.single else result
        self.outputs = [None if t is None else _Output(t.shape, t.dtype) for t in results]
        bases = [*inputs, *(t for t in results if t is not None)]
        fresh = {t.data_ptr(): t for t in recorder.allocated}
        for output in bases[len(inputs) :]:
            buffer = fresh.get(output.data_ptr())
            if buffer is None or output.nbytes != buffer.untyped_storage().nbytes():
                raise Obstacle('it returns something else than whole tensors of its own')
            if not output.is_contiguous():
                raise Obstacle('it returns a tensor that is not contiguous')
        starts = {t.data_ptr(): i for i, t in enumerate(bases)}
        if len(starts) < len(bases):
            raise Obstacle('it returns a tensor twice, or an empty one')
        # What is left is needed during the run only, and shares one allocation.
        self.scratch_bytes, places = 0, {}
        for start, buffer in fresh.items():
            if start not in starts:
                places[start] = (self.scratch_bytes, buffer.untyped_storage().nbytes())
                self.scratch_bytes += -(-places[start][1] // ALIGNMENT) * ALIGNMENT
        self.patches = [
            self._patches(launch.arguments, starts, len(bases), places) for launch in self.launches
        ]

    @staticmethod
    def _patches(
        arguments: Sequence[Any],
        starts: dict[int, int],
        scratch: int,
        places: dict[int, tuple[int, int]],
    ) -> list[_Patch]:
        patches = []
        for place, pointer in (found for a in arguments for found in pointers_in(a)):
            slot = ctypes.c_uint64.from_address(place)
            if pointer in starts:
                patches.append(_Patch(slot, starts[pointer], 0))
                continue
            inside = [s for s, (_, size) in places.items() if s <= pointer < s + size]
            if not inside:
                raise Obstacle('a kernel is given an address of unknown origin')
            patches.append(_Patch(slot, scratch, places[inside[0]][0] + pointer - inside[0]))
        return patches

    def __call__(self, inputs: list[Tensor]) -> Any:
        """Run on other tensors of the same layout."""
        device = self.device
        results = [
            None if o is None else torch.empty(o.size, dtype=o.dtype, device=device)
            for o in self.outputs
        ]
        bases = [t.data_ptr() for t in inputs]
        bases += [t.data_ptr() for t in results if t is not None]
        if self.scratch_bytes:
            scratch = torch.empty(self.scratch_bytes, dtype=torch.uint8, device=device)
            bases.append(scratch.data_ptr())
        with on_stream(device) as stream, self.lock:
            for launch, patches in zip(self.launches, self.patches, strict=True):
                for place, base, offset in patches:
                    place.value = bases[base] + offset
                launch.run(stream)
        return results[0] if self.single else tuple(results)
