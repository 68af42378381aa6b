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
from .launch import Prepared, on_stream
from .recording import Obstacle, Recorder, pointers_in

__all__ = ['Replay', 'replayed']

MOST_LAYOUTS = 1024
"""Layouts of arguments that are remembered for an operator."""

ALIGNMENT = 512
"""Bytes; that of PyTorch's own allocations on GPUs."""


def replayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function that launches kernels run by :class:`Replay`.

    The second call with arguments of some layout is recorded, and repeated from then on.

    Args:
        function: Takes tensors, numbers, strings, None and sequences of them, and returns a new
            tensor or a tuple of new tensors and None. It must do nothing that depends on the
            numbers in a tensor. If it does something besides launching, it always runs as it is.
    """
    replays: dict[tuple, Replay | None] = {}
    seen: set[tuple] = set()

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        tensors: list[Tensor] = []
        key = _describe(args, tensors)
        if key in replays:
            replay = replays[key]
            return function(*args) if replay is None else replay(tensors)
        if key not in seen or len({t.data_ptr() for t in tensors}) < len(tensors):
            # Recording takes time, and images may be of any size; and of a tensor that is given
            # twice, one could not tell which one a launch means.
            if len(seen) >= MOST_LAYOUTS:
                seen.clear()
                replays.clear()
            seen.add(key)
            return function(*args)
        result, replays[key] = _record(function, args, tensors)
        return result

    return run


def _describe(args: Sequence[Any], tensors: list[Tensor]) -> tuple:
    """All that launches depend on; collects the tensors, all on one device, on the way."""
    key: list[Any] = []
    for arg in args:
        if isinstance(arg, Tensor):
            if not tensors:
                key.append(arg.get_device())
            tensors.append(arg)
            key += (arg.dtype, arg.shape, arg.stride(), arg.data_ptr() % 16)
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


class Replay:
    """What one run of an operator launched, ready to be launched again.

    The tensors whose addresses launches take are numbered: the inputs, two of scratch, the outputs.

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
        made = [t for t in results if t is not None]
        fresh = {t.data_ptr(): t for t in recorder.allocated}
        for output in made:
            buffer = fresh.get(output.data_ptr())
            if buffer is None or output.nbytes != buffer.untyped_storage().nbytes():
                raise Obstacle('it returns something else than whole tensors of its own')
            if not output.is_contiguous():
                raise Obstacle('it returns a tensor that is not contiguous')
        numbers = {t.data_ptr(): i for i, t in enumerate(inputs)}
        numbers.update({t.data_ptr(): len(inputs) + 2 + i for i, t in enumerate(made)})
        if len(numbers) < len(inputs) + len(made):
            raise Obstacle('it returns a tensor twice, or an empty one')
        # What is left is needed during the run only.
        scratch = [t for start, t in fresh.items() if start not in numbers]
        found = [self._find(launch, numbers, scratch) for launch in self.launches]
        self.patches = self._place(found, len(inputs), scratch)
        self.outputs = [t if t is None else _like(t.shape, t.dtype, self.device) for t in results]

    @staticmethod
    def _find(
        launch: Prepared, numbers: dict[int, int], scratch: list[Tensor]
    ) -> list[tuple[int, int, int]]:
        """Where each pointer of a launch lies, the number of its tensor, and how far into that.

        Scratch buffers are numbered from -1 downwards, before they are laid out.
        """
        found = []
        for place, pointer in (p for a in launch.arguments for p in pointers_in(a)):
            if pointer in numbers:
                found.append((place, numbers[pointer], 0))
                continue
            for i, buffer in enumerate(scratch):
                inside = pointer - buffer.data_ptr()
                if 0 <= inside < buffer.untyped_storage().nbytes():
                    found.append((place, -1 - i, inside))
                    break
            else:
                raise Obstacle('a kernel is given an address of unknown origin')
        return found

    def _place(
        self, found: list[list[tuple[int, int, int]]], inputs: int, scratch: list[Tensor]
    ) -> list[list[_Patch]]:
        """Lay scratch buffers out in two allocations.

        The first is given back before the outputs are made, so that they may take its place: it
        has the buffers that no launch needs from the first on that needs an output.
        """
        uses = [{i for _, i, _ in launch} for launch in found]
        writes = (n for n, used in enumerate(uses) if max(used, default=-1) >= inputs)
        self.turn = min(writes, default=0)
        late = set().union(*uses[self.turn :])
        sizes, where = [0, 0], {}
        for i, buffer in enumerate(scratch):
            part = int(-1 - i in late)
            where[-1 - i] = (inputs + part, sizes[part])
            sizes[part] += -(-buffer.untyped_storage().nbytes() // ALIGNMENT) * ALIGNMENT
        self.scratch = [_like((n,), torch.uint8, self.device) if n else None for n in sizes]
        return [
            [
                _Patch(ctypes.c_uint64.from_address(place), base, start + inside)
                for place, i, inside in launch
                for base, start in (where.get(i, (i, 0)),)
            ]
            for launch in found
        ]

    def __call__(self, inputs: list[Tensor]) -> Any:
        """Run on other tensors of the same layout."""
        early, late = (None if t is None else torch.empty_like(t) for t in self.scratch)
        addresses = [t.data_ptr() for t in inputs]
        addresses += (0 if t is None else t.data_ptr() for t in (early, late))
        with on_stream(self.device) as stream, self.lock:
            self._launch(0, self.turn, addresses, stream)
            del early
            results = [None if t is None else torch.empty_like(t) for t in self.outputs]
            addresses += [t.data_ptr() for t in results if t is not None]
            self._launch(self.turn, len(self.launches), addresses, stream)
        return results[0] if self.single else tuple(results)

    def _launch(self, first: int, last: int, addresses: list[int], stream: int) -> None:
        for n in range(first, last):
            for place, base, offset in self.patches[n]:
                place.value = addresses[base] + offset
            self.launches[n].run(stream)


def _like(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Something without memory of its own that ``torch.empty_like`` makes a contiguous tensor like.

    That takes a third of the time of ``torch.empty``, which has more to be told.
    """
    return torch.empty(1, dtype=dtype, device=device).as_strided(shape, [0] * len(shape))
