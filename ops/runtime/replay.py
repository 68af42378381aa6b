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

from .driver import on_stream
from .launch import check_launch
from .recording import Obstacle, Pointer, Recorder
from .scratch import Buffer, lay_out
from .watch import is_rehearsing, listening

__all__ = ['Replay', 'replayed']

MOST_LAYOUTS = 1024
"""Layouts of arguments that are remembered for an operator, those used last."""

RECORDED = 2
"""Which call with arguments of a layout is recorded. It is not the first one, because recording
takes time, and images may be of any size."""


def replayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function that launches kernels launch them again instead of running again.

    The second call with arguments of some layout is recorded, and repeated from then on.

    Args:
        function: Takes tensors, numbers, strings, None and sequences of them, and returns a new
            tensor or a tuple of new tensors and None. It must do nothing that depends on the
            numbers in a tensor. If it does something besides launching, it always runs as it is.
    """

    @functools.lru_cache(MOST_LAYOUTS)
    def find(key: tuple) -> _Layout:
        return _Layout()

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        if is_rehearsing():
            return function(*args)
        tensors: list[Tensor] = []
        addresses: list[int] = []
        layout = find((_describe(args, tensors, addresses), _shared(addresses)))
        replay = layout.replay
        if replay is None:
            layout.calls = calls = layout.calls + 1
            if calls != RECORDED:
                return function(*args)
            result, layout.replay = _record(function, args, tensors)
            return result
        addresses, results, scratch = replay.allocate(addresses)
        with on_stream(replay.device) as stream, replay.lock:
            handle = ctypes.c_void_p(stream)
            for launch, patches in replay.launches:
                for place, base, offset in patches:
                    place.value = addresses[base] + offset
                status = launch.start(handle, launch.pointers, None)
                if status:
                    check_launch(status)
        del scratch  # not before: another thread might be given its memory between two launches
        return results[0] if replay.single else tuple(results)

    return run


class _Layout:
    """What is known of a layout of arguments: how often it has come, and how to replay it."""

    def __init__(self) -> None:
        self.calls = 0
        self.replay: Replay | None = None


def _describe(args: Sequence[Any], tensors: list[Tensor], addresses: list[int]) -> tuple:
    """All that launches depend on; collects the tensors, all on one device, on the way."""
    key: list[Any] = []
    put = key.append  # some fifty tensors a call: what is told of each counts
    for arg in args:
        if isinstance(arg, Tensor):
            if not tensors:
                put(arg.get_device())
            tensors.append(arg)
            address = arg.data_ptr()
            addresses.append(address)
            put(arg.dtype)
            put(arg.shape)
            put(None if arg.is_contiguous() else arg.stride())
            put(address % 16)
        elif isinstance(arg, tuple | list):
            put(_describe(arg, tensors, addresses))
        else:
            put(arg)
    return tuple(key)


def _shared(addresses: list[int]) -> tuple[int, ...] | None:
    """For each tensor the first one at its address, or None if all are at different ones.

    Of tensors at one address, one cannot tell which a launch means; so they have to be at one in
    every call that is replayed.
    """
    if len(set(addresses)) == len(addresses):
        return None
    return tuple(map(addresses.index, addresses))


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

    The tensors whose addresses launches take are numbered: the inputs, one of scratch, the outputs.

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
        self.device, self.lock = inputs[0].device, Lock()
        self.single = isinstance(result, Tensor)
        results = (result,) if self.single else result
        self.outputs = [t if t is None else _like(t.shape, t.dtype, self.device) for t in results]
        where, size = _lay_out(recorder, len(inputs), [t for t in results if t is not None])
        self.scratch = _like((size,), torch.uint8, self.device) if size else None
        self.launches = [
            (launch, [_patch(pointer, where, inputs, recorder) for pointer in pointers])
            for launch, pointers in recorder.launches
        ]

    def allocate(self, inputs: list[int]) -> tuple[list[int], list[Tensor | None], Tensor | None]:
        """The addresses of all numbered tensors, those of the inputs given; results; scratch."""
        scratch = None if self.scratch is None else torch.empty_like(self.scratch)
        results = [None if t is None else torch.empty_like(t) for t in self.outputs]
        addresses = [*inputs, 0 if scratch is None else scratch.data_ptr()]
        addresses += [t.data_ptr() for t in results if t is not None]
        return addresses, results, scratch


def _lay_out(
    recorder: Recorder, inputs: int, made: list[Tensor]
) -> tuple[dict[int, tuple[int, int]], int]:
    """Where each allocation goes: the number of a tensor, and how far into it; and scratch's size.

    What is not the results' is scratch, and needed from the first to the last launch that uses it.
    """
    where = {}
    for i, output in enumerate(made):
        number = recorder.find(output.data_ptr())
        if number is None or recorder.allocated[number] != (output.data_ptr(), output.nbytes):
            raise Obstacle('it returns something else than whole tensors of its own')
        if not output.is_contiguous():
            raise Obstacle('it returns a tensor that is not contiguous')
        if number in where:
            raise Obstacle('it returns a tensor twice')
        where[number] = inputs + 1 + i, 0
    uses: dict[int, list[int]] = {}
    for n, (_, pointers) in enumerate(recorder.launches):
        for number in {p.allocation for p in pointers if p.allocation is not None} - where.keys():
            uses.setdefault(number, []).append(n)
    starts, size = lay_out(
        [Buffer(recorder.allocated[i].size, used[0], used[-1]) for i, used in uses.items()]
    )
    where.update({i: (inputs, start) for i, start in zip(uses, starts, strict=True)})
    return where, size


def _patch(
    pointer: Pointer,
    where: dict[int, tuple[int, int]],
    inputs: Sequence[Tensor],
    recorder: Recorder,
) -> _Patch:
    """A pointer into an allocation, or to an element of one of the operator's arguments."""
    number = pointer.allocation
    if number is None:
        base, offset = _find_argument(pointer.address, inputs)
    else:
        base, start = where[number]
        offset = start + pointer.address - recorder.allocated[number].start
    return _Patch(ctypes.c_uint64.from_address(pointer.place), base, offset)


def _find_argument(address: int, inputs: Sequence[Tensor]) -> tuple[int, int]:
    """The number of the argument that has an element at an address, and how far into it that is.

    Raises:
        Obstacle: If there is none; or if several arguments have, unless all of them begin at the
            same address, as they do in every call of this layout then.
    """
    found = [(i, address - t.data_ptr()) for i, t in enumerate(inputs) if _has(t, address)]
    if not found:
        raise Obstacle('a kernel is given an address of unknown origin')
    if len({offset for _, offset in found}) > 1:
        raise Obstacle('a kernel is given an address at which two arguments overlap')
    return found[0]


def _has(tensor: Tensor, address: int) -> bool:
    """Whether one of a tensor's elements is at an address.

    Its elements are taken to lie in the order of its strides, as those of a part of a larger tensor
    do; of others, this may say no of what is an element.
    """
    distance, rest = divmod(address - tensor.data_ptr(), tensor.element_size())
    if rest or distance < 0 or not tensor.numel():
        return False
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True), reverse=True):
        if stride:
            distance -= min(distance // stride, size - 1) * stride
    return distance == 0


def _like(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Something without memory of its own that ``torch.empty_like`` makes a contiguous tensor like.

    That takes a third of the time of ``torch.empty``, which has more to be told. It must not keep
    memory: the pool of a CUDA graph, where it may be made, has to be empty between two runs.
    """
    like = torch.empty(1, dtype=dtype, device=device).as_strided(shape, [0] * len(shape))
    like.untyped_storage().resize_(0)
    return like
