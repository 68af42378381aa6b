"""Launches of compiled kernels on PyTorch's current stream."""

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
        source: Name of its file, without the suffix also the name of the kernel.
        definitions: Names and values of macros for which it is compiled.
        grid: Blocks along x and y.
        threads: Threads of a block.
        shared_bytes: Bytes of shared memory of a block.
        arguments: Arguments as :mod:`ctypes` values; structures are passed by value.
    """

    source: str
    definitions: Definitions
    grid: tuple[int, int]
    threads: int
    shared_bytes: int
    arguments: Sequence[Any]

    def key(self) -> tuple:
        """Identify what is compiled."""
        return self.source, self.definitions

    def compile_ahead(self, device: torch.device) -> None:
        """Start to compile the kernel for a GPU in the background."""
        compile_ahead(self.source, self.definitions, architecture_of(device))


def address(tensor: Tensor | None) -> int | None:
    """The address of a tensor for a pointer argument, or None."""
    return None if tensor is None else tensor.data_ptr()


def multiprocessors(device: torch.device) -> int:
    """Number of multiprocessors of a GPU, or 1 on other devices, where tests emulate kernels."""
    return hardware_of(device).multiprocessors


class Prepared:
    """A kernel and its arguments, to be launched any number of times.

    The arguments' memory may be overwritten between launches.

    Args:
        start: The driver's function, ``(stream's handle, pointers to the arguments, None)`` to a
            status.
        arguments: Arguments as :mod:`ctypes` values; structures are passed by value.
    """

    def __init__(self, start: Callable[..., int], arguments: Sequence[Any]) -> None:
        self.start, self.arguments = start, arguments
        self.pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))

    def run(self, stream: int) -> None:
        """Launch on a stream, given by its handle.

        Raises:
            RuntimeError: If the launch fails.
        """
        check_launch(self.start(ctypes.c_void_p(stream), self.pointers, None))


def check_launch(status: int) -> None:
    """Check the status that :attr:`Prepared.start` returns.

    Raises:
        RuntimeError: If the launch has failed.
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
    """Prepare the launch of a kernel on a GPU.

    Args:
        function: The driver's handle of the kernel.
        grid: Blocks along x, y and z.
        threads: Threads of a block.
        shared_bytes: Bytes of shared memory of a block.
        arguments: Arguments as :mod:`ctypes` values; structures are passed by value.
    """
    before = (ctypes.c_void_p(int(function)), *grid, threads, 1, 1, shared_bytes)
    return Prepared(partial(driver_function('cuLaunchKernel'), *before), arguments)


def _prepare_on_gpu(call: Launch, device: torch.device) -> Prepared:
    function = load(call.source, call.definitions, device).with_shared(call.shared_bytes)
    return prepare(function, (*call.grid, 1), call.threads, call.shared_bytes, call.arguments)


PREPARE: dict[str, Callable[[Launch, torch.device], Prepared]] = {'cuda': _prepare_on_gpu}
"""Functions that prepare a launch, by the type of device. Tests add an emulation for ``'cpu'``."""


def launch(call: Launch, device: torch.device) -> None:
    """Launch a kernel on PyTorch's current stream.

    Raises:
        RuntimeError: If it cannot be compiled, loaded or launched.
    """
    if rehearse(call):
        return
    with on_stream(device) as stream:
        prepared = PREPARE[device.type](call, device)
        prepared.run(stream)
    tell(call, lambda: prepared)
