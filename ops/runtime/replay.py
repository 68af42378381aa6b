"""Replays of an operator, which repeat the launches of an earlier run with other addresses.

What an operator launches depends only on the layout of its arguments. To find it out anew takes
Python about ten times as long as the launches themselves, and the GPU would wait for that.
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
"""Number of layouts of arguments that are remembered for an operator; older ones are dropped."""

RECORDED = 2
"""Number of the call with a layout that is recorded.

It is not the first one, because a recording takes time, and every image may have another size.
"""


def replayed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that launches kernels repeat the launches instead of running again.

    The second call with arguments of some layout is recorded, and later calls repeat it.

    Args:
        function: The function. Its arguments are tensors, numbers, strings, None and sequences of
            them. It returns a new tensor, or a tuple of new tensors and None. It must do nothing
            that depends on the numbers in a tensor. If it does more than allocate and launch, it
            always runs as it is.
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
        del scratch  # earlier, another thread could get its memory between two launches
        return results[0] if replay.single else tuple(results)

    return run


class _Layout:
    """The number of calls with a layout of arguments, and its replay."""

    def __init__(self) -> None:
        self.calls = 0
        self.replay: Replay | None = None


def _describe(args: Sequence[Any], tensors: list[Tensor], addresses: list[int]) -> tuple:
    """Describe everything on which launches depend, and collect the tensors and their addresses.

    All tensors have to be on one device.
    """
    key: list[Any] = []
    put = key.append  # a call may have fifty tensors, so every look-up counts
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
    """The first tensor at the address of each tensor, or None if all addresses differ.

    If tensors share an address, a launch does not tell which of them it means. So they have to
    share it in every call that is replayed.
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
    """A pointer among a launch's arguments: its place, and the tensor and offset that it means."""

    place: ctypes.c_uint64
    base: int
    offset: int


class Replay:
    """The launches of one run of an operator, ready to be repeated.

    The tensors whose addresses launches take are numbered: first the inputs, then one tensor of
    scratch memory, then the outputs.

    Args:
        recorder: The recorder of the run.
        inputs: The tensors among its arguments.
        result: The result of the run.

    Raises:
        Obstacle: If launches alone cannot repeat the run.
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
        """Allocate the outputs and scratch memory.

        Args:
            inputs: Addresses of the inputs.

        Returns:
            The addresses of all numbered tensors, the outputs, and the scratch memory.
        """
        scratch = None if self.scratch is None else torch.empty_like(self.scratch)
        results = [None if t is None else torch.empty_like(t) for t in self.outputs]
        addresses = [*inputs, 0 if scratch is None else scratch.data_ptr()]
        addresses += [t.data_ptr() for t in results if t is not None]
        return addresses, results, scratch


def _lay_out(
    recorder: Recorder, inputs: int, made: list[Tensor]
) -> tuple[dict[int, tuple[int, int]], int]:
    """Assign every recorded allocation to a numbered tensor.

    Allocations that are no results are scratch memory. Each is needed from the first to the last
    launch that uses it.

    Returns:
        For each allocation, the number of a tensor and the offset in it, and the size of the
        scratch memory in bytes.

    Raises:
        Obstacle: If a result is no whole, contiguous tensor of its own.
    """
    where = {}
    for i, output in enumerate(made):
        number = recorder.find(output.data_ptr())
        if number is None or recorder.allocated[number] != (output.data_ptr(), output.nbytes):
            raise Obstacle('it returns something other than whole tensors of its own')
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
    """Resolve a pointer into an allocation, or to an element of one of the operator's arguments."""
    number = pointer.allocation
    if number is None:
        base, offset = _find_argument(pointer.address, inputs)
    else:
        base, start = where[number]
        offset = start + pointer.address - recorder.allocated[number].start
    return _Patch(ctypes.c_uint64.from_address(pointer.place), base, offset)


def _find_argument(address: int, inputs: Sequence[Tensor]) -> tuple[int, int]:
    """Find the argument that has an element at an address, and the offset of the address in it.

    Several arguments may have an element there if they begin at the same address, because they do
    so in every call of this layout.

    Raises:
        Obstacle: If no argument has an element there, or arguments that begin elsewhere do.
    """
    found = [(i, address - t.data_ptr()) for i, t in enumerate(inputs) if _has(t, address)]
    if not found:
        raise Obstacle('a kernel is given an address of unknown origin')
    if len({offset for _, offset in found}) > 1:
        raise Obstacle('a kernel is given an address at which two arguments overlap')
    return found[0]


def _has(tensor: Tensor, address: int) -> bool:
    """Whether one of a tensor's elements is at an address.

    This assumes that its elements are in the order of its strides, as in a part of a larger tensor.
    For other tensors, the answer may be False although there is an element.
    """
    distance, rest = divmod(address - tensor.data_ptr(), tensor.element_size())
    if rest or distance < 0 or not tensor.numel():
        return False
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True), reverse=True):
        if stride:
            distance -= min(distance // stride, size - 1) * stride
    return distance == 0


def _like(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Make a tensor without memory, as a pattern for ``torch.empty_like``.

    With a pattern, an allocation takes a third of the time of ``torch.empty``, which has more
    arguments. The pattern must not keep memory, because it may be made in the pool of a CUDA graph,
    which has to be empty between two runs.
    """
    like = torch.empty(1, dtype=dtype, device=device).as_strided(shape, [0] * len(shape))
    like.untyped_storage().resize_(0)
    return like
