"""A record of one run of an operator: its allocations and launches."""

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .launch import Prepared

__all__ = ['Allocation', 'Obstacle', 'Pointer', 'Recorder', 'pointers_in']

ALLOCATIONS = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
}


class Obstacle(Exception):
    """A reason why launches alone cannot repeat an operator's run."""


class Allocation(NamedTuple):
    """Memory of a tensor during a recording.

    Attributes:
        start: Its address.
        size: Its size in bytes.
    """

    start: int
    size: int


class Pointer(NamedTuple):
    """An address among the arguments of a launch.

    Attributes:
        place: The address of the pointer itself.
        address: The address to which it points.
        allocation: The number of the allocation into which it pointed then, or None.
    """

    place: int
    address: int
    allocation: int | None


class Recorder(TorchDispatchMode):
    """A mode that notes PyTorch's allocations, and launches by :meth:`hear`.

    Attributes:
        allocated: Allocations in order. A later one may have the memory of an earlier, freed one.
        launches: Launches in order, with the pointers among their arguments.
        obstacle: The first reason why launches alone cannot repeat the run, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.allocated: list[Allocation] = []
        self.launches: list[tuple[Prepared, list[Pointer]]] = []
        self.obstacle: str | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operation of PyTorch, and note an allocation or an obstacle."""
        result = func(*args, **(kwargs or {}))
        if func in ALLOCATIONS:
            self.allocated.append(Allocation(result.data_ptr(), result.untyped_storage().nbytes()))
        elif not _is_view(func):
            self.obstacle = self.obstacle or f'{func} runs between the launches'
        return result

    def hear(self, call: Any, prepare: Callable[[], Prepared]) -> None:
        """Note a launch; see :func:`.watch.tell`."""
        try:
            launch = prepare()
            found = (p for argument in launch.arguments for p in pointers_in(argument))
            self.launches.append((launch, [Pointer(*p, self.find(p[1])) for p in found]))
        except (Obstacle, AttributeError) as problem:  # Triton's internals may change
            self.obstacle = self.obstacle or str(problem)

    def find(self, address: int) -> int | None:
        """Find the number of the last allocation that contains an address, or None."""
        for i in range(len(self.allocated) - 1, -1, -1):
            start, size = self.allocated[i]
            if start <= address < start + size:
                return i
        return None


def _is_view(func: Any) -> bool:
    aliases = [value.alias_info for value in func._schema.returns]
    return bool(aliases) and all(a is not None and not a.is_write for a in aliases)


def pointers_in(argument: Any) -> Iterator[tuple[int, int]]:
    """The place and the value of each pointer in an argument of a kernel, except null pointers."""
    if isinstance(argument, ctypes.c_void_p):
        if argument.value:
            yield ctypes.addressof(argument), argument.value
    elif isinstance(argument, ctypes.Array):
        for element in argument:
            yield from pointers_in(element)
    elif isinstance(argument, ctypes.Structure):
        for name, kind, *_ in argument._fields_:
            place = ctypes.addressof(argument) + getattr(type(argument), name).offset
            yield from pointers_in(kind.from_address(place))
