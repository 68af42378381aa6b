"""The CUDA driver: its functions, PyTorch's stream, and kernels that are loaded."""

import ctypes
import threading
from functools import cache
from typing import Any

import torch

from .compile import Definitions, compile_kernel

__all__ = ['architecture_of', 'check', 'driver_function', 'load', 'on_stream']


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


def load(source: str, definitions: Definitions, device: torch.device) -> _Loaded:
    """A kernel on a GPU, compiled and loaded unless that has been done already.

    Args:
        source: Name of its file; the kernel is called like it.
        definitions: What it is compiled for.
        device: The GPU.

    Raises:
        RuntimeError: If it cannot be compiled or loaded.
    """
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
