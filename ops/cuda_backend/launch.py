"""Launching compiled kernels on PyTorch's current stream."""

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..triton_backend.launch import rehearse, tell
from .compile import Definitions, compile_ahead, compile_kernel
from .hardware import hardware_of

__all__ = [
    'Launch',
    'Launcher',
    'Prepared',
    'address',
    'architecture_of',
    'check',
    'compile_launch_ahead',
    'driver_function',
    'launch',
    'multiprocessors',
    'on_stream',
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


Launcher = Callable[[Launch, torch.device], None]
"""A function like :func:`launch`; tests have one that emulates a GPU."""


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
        function: The driver's handle.
        grid: Blocks along x, y and z.
        threads: Of a block.
        shared_bytes: Shared memory of a block.
        arguments: As :mod:`ctypes` values, structures passed by value.
    """

    def __init__(
        self,
        function: Any,
        grid: tuple[int, int, int],
        threads: int,
        shared_bytes: int,
        arguments: Sequence[Any],
    ) -> None:
        self.arguments = arguments
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        handle = ctypes.c_void_p(int(function))
        self._before = (handle, *grid, threads, 1, 1, shared_bytes)
        self._after = (pointers, None)

    def run(self, stream: int) -> None:
        """Launch behind what a stream, by its handle, has been given already.

        Raises:
            RuntimeError: If the driver refuses.
        """
        status = driver_function('cuLaunchKernel')(
            *self._before, ctypes.c_void_p(stream), *self._after
        )
        if status:
            raise RuntimeError(f'the CUDA driver refused a launch: error {status}')


def launch(call: Launch, device: torch.device) -> None:
    """Run a kernel on a GPU, behind what its stream has been given already.

    Raises:
        RuntimeError: If it cannot be compiled, loaded or launched.
    """
    if rehearse(call):
        return
    with on_stream(device) as stream:
        function = _load(call.source, call.definitions, device).with_shared(call.shared_bytes)
        prepared = Prepared(
            function, (*call.grid, 1), call.threads, call.shared_bytes, call.arguments
        )
        prepared.run(stream)
    tell(lambda: prepared)


def compile_launch_ahead(call: Launch, device: torch.device) -> None:
    """Have a kernel compiled in the background that is going to be launched."""
    compile_ahead(call.source, call.definitions, architecture_of(device))


def architecture_of(device: torch.device) -> str:
    """What kernels for a GPU are compiled for, such as ``'sm_90'``."""
    major, minor = torch.cuda.get_device_capability(device)
    return f'sm_{major}{minor}'


@cache
def driver_function(name: str) -> Any:
    """A function of the driver's, called without the bindings' conversions: for frequent calls.

    Args:
        name: The function's; it must return a status.

    Raises:
        RuntimeError: If the driver has none of that name.
    """
    from cuda.bindings import driver

    found = check(driver.cuGetProcAddress(name.encode(), 12000, 0))
    return ctypes.CFUNCTYPE(ctypes.c_int)(int(found))


class on_stream:  # noqa: N801 - a context manager
    """Make a GPU the thread's, and give the handle of PyTorch's current stream there.

    Anything but a GPU, which only an emulation runs on, has neither.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.other: Any = None

    def __enter__(self) -> int:
        if self.device.type != 'cuda':
            return 0
        index = torch._C._cuda_getDevice()  # there are tensors, so CUDA has begun
        if self.device.index not in (None, index):
            self.other, index = torch.cuda.device(self.device), self.device.index
            self.other.__enter__()
        _enter_context()
        return int(torch._C._cuda_getCurrentRawStream(index))

    def __exit__(self, *error: Any) -> None:
        if self.other is not None:
            self.other.__exit__(*error)


_entered = threading.local()


def _enter_context() -> None:
    """Make PyTorch's context a new thread's, as the runtime does when a thread first calls it.

    From then on, changing PyTorch's device changes the context.
    """
    if getattr(_entered, 'yes', False):
        return
    from cuda.bindings import driver

    if int(check(driver.cuCtxGetCurrent())) == 0:
        context = check(driver.cuDevicePrimaryCtxRetain(torch.cuda.current_device()))
        check(driver.cuCtxSetCurrent(context))
    _entered.yes = True


class _Loaded:
    """A kernel on a GPU, loaded once for whatever shared memory it is launched with.

    Args:
        function: The driver's handle.
    """

    def __init__(self, function: Any) -> None:
        self._function, self._most, self._lock = function, 48 * 1024, threading.Lock()

    def with_shared(self, size: int) -> Any:
        """The handle, for launches with at most ``size`` bytes of shared memory.

        Raises:
            RuntimeError: If the GPU does not have them.
        """
        if size > self._most:
            from cuda.bindings import driver

            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            with self._lock:
                check(driver.cuFuncSetAttribute(self._function, attribute, max(size, self._most)))
                self._most = max(size, self._most)
        return self._function


_LOADING = threading.Lock()


def _load(source: str, definitions: Definitions, device: torch.device) -> _Loaded:
    with _LOADING:  # or two threads would load it twice
        return _load_once(source, definitions, device)


@cache
def _load_once(source: str, definitions: Definitions, device: torch.device) -> _Loaded:
    from cuda.bindings import driver

    cubin = compile_kernel(source, definitions, architecture_of(device))
    module = check(driver.cuModuleLoadData(cubin))
    return _Loaded(check(driver.cuModuleGetFunction(module, source.removesuffix('.cu').encode())))


def check(result: tuple[Any, ...]) -> Any:
    """The value of a call to the driver.

    Raises:
        RuntimeError: If the driver refused.
    """
    from cuda.bindings import driver

    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f'the CUDA driver refused: {status.name}')
    return values[0] if values else None
