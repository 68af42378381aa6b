"""Launching compiled kernels on PyTorch's current stream."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .compile import Definitions, compile_ahead
from .driver import architecture_of, driver_function, load, on_stream
from .hardware import hardware_of
from .watch import rehearse, tell

__all__ = [
    'PREPARE',
    'Launch',
    'Prepared',
    'address',
    'check_launch',
    'launch',
    'multiprocessors',
    'prepare',
]


@dataclass(frozen=True)
class Launch:
    """A call of a kernel.

    Attributes:
        source: Name of its file; the kernel is called like it.
        definitions: What it is compiled for.
        grid: Blocks along x and y.
        threads: Of a block.
        shared_bytes: Shared memory of a block.
        arguments: As :mod:`ctypes` values, structures passed by value.
    """

    source: str
    definitions: Definitions
    grid: tuple[int, int]
    threads: int
    shared_bytes: int
    arguments: Sequence[Any]

    def key(self) -> tuple:
        """What is compiled."""
        return self.source, self.definitions

    def compile_ahead(self, device: torch.device) -> None:
        """Have the kernel compiled in the background for a GPU."""
        compile_ahead(self.source, self.definitions, architecture_of(device))


def address(tensor: Tensor | None) -> int | None:
    """What a pointer argument takes."""
    return None if tensor is None else tensor.data_ptr()


def multiprocessors(device: torch.device) -> int:
    """Of a GPU; of anything else, which only an emulation runs on, one."""
    return hardware_of(device).multiprocessors


class Prepared:
    """A kernel with the arguments that it is launched with, any number of times.

    The arguments' memory may be written over between launches.

    Args:
        start: ``(handle of a stream, pointers to the arguments, None) -> status``, the driver's.
        arguments: As :mod:`ctypes` values, structures passed by value.
    """

    def __init__(self, start: Callable[..., int], arguments: Sequence[Any]) -> None:
        self.start, self.arguments = start, arguments
        self.pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))

    def run(self, stream: int) -> None:
        """Launch behind what a stream, by its handle, has been given already.

        Raises:
            RuntimeError: If the driver refuses.
        """
        check_launch(self.start(ctypes.c_void_p(stream), self.pointers, None))


def check_launch(status: int) -> None:
    """Check what :attr:`Prepared.start` returns.

    Raises:
        RuntimeError: If the driver has refused.
    """
    if status:
        raise RuntimeError(f'the CUDA driver refused a launch: error {status}')


def prepare(
    function: Any,
    grid: tuple[int, int, int],
    threads: int,
    shared_bytes: int,
    arguments: Sequence[Any],
) -> Prepared:
    """Make a kernel on a GPU ready.

    Args:
        function: The driver's handle.
        grid: Blocks along x, y and z.
        threads: Of a block.
        shared_bytes: Shared memory of a block.
        arguments: As :mod:`ctypes` values, structures passed by value.
    """
    before = (ctypes.c_void_p(int(function)), *grid, threads, 1, 1, shared_bytes)
    return Prepared(partial(driver_function('cuLaunchKernel'), *before), arguments)


def _prepare_on_gpu(call: Launch, device: torch.device) -> Prepared:
    function = load(call.source, call.definitions, device).with_shared(call.shared_bytes)
    return prepare(function, (*call.grid, 1), call.threads, call.shared_bytes, call.arguments)


PREPARE: dict[str, Callable[[Launch, torch.device], Prepared]] = {'cuda': _prepare_on_gpu}
"""How a launch is made ready, by the type of device. Tests add an emulation for ``'cpu'``."""


def launch(call: Launch, device: torch.device) -> None:
    """Run a kernel, behind what PyTorch's current stream has been given already.

    Raises:
        RuntimeError: If it cannot be compiled, loaded or launched.
    """
    if rehearse(call):
        return
    with on_stream(device) as stream:
        prepared = PREPARE[device.type](call, device)
        prepared.run(stream)
    tell(call, lambda: prepared)
