"""The CUDA driver: its functions, PyTorch's stream, and loaded kernels."""

import ctypes
import threading
from functools import cache
from typing import Any

import torch

from .compile import Definitions, compile_kernel

__all__ = ['architecture_of', 'check', 'driver_function', 'load', 'on_stream']


def architecture_of(device: torch.device) -> str:
    """The architecture for which kernels for a GPU are compiled, such as ``'sm_90'``."""
    major, minor = torch.cuda.get_device_capability(device)
    return f'sm_{major}{minor}'


@cache
def driver_function(name: str) -> Any:
    """Get a function of the driver for frequent calls, without the conversions of the bindings.

    Args:
        name: Name of the function, which has to return a status.

    Raises:
        RuntimeError: If the driver has no function of that name.
    """
    from cuda.bindings import driver

    found = check(driver.cuGetProcAddress(name.encode(), 12000, 0))
    return ctypes.CFUNCTYPE(ctypes.c_int)(int(found))


class on_stream:  # noqa: N801 - a context manager
    """Make a GPU the thread's current one, and return the handle of PyTorch's current stream.

    On other devices, on which only tests emulate kernels, it does nothing and returns 0.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.other: Any = None

    def __enter__(self) -> int:
        if self.device.type != 'cuda':
            return 0
        index = torch._C._cuda_getDevice()  # CUDA is initialised, since there are tensors
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
    """Make PyTorch's context the current one of a new thread, as a call of CUDA's runtime would.

    After that, a change of PyTorch's device changes the context too.
    """
    if getattr(_entered, 'yes', False):
        return
    from cuda.bindings import driver

    if int(check(driver.cuCtxGetCurrent())) == 0:
        context = check(driver.cuDevicePrimaryCtxRetain(torch.cuda.current_device()))
        check(driver.cuCtxSetCurrent(context))
    _entered.yes = True


class _Loaded:
    """A kernel on a GPU, loaded once for launches with any size of shared memory.

    Args:
        function: The driver's handle of the kernel.
    """

    def __init__(self, function: Any) -> None:
        self._function, self._most, self._lock = function, 48 * 1024, threading.Lock()

    def with_shared(self, size: int) -> Any:
        """Return the handle for launches with at most ``size`` bytes of shared memory.

        Raises:
            RuntimeError: If the GPU has less shared memory.
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
    """Load a kernel on a GPU, and compile it before, unless that has been done already.

    Args:
        source: Name of its file, without the suffix also the name of the kernel.
        definitions: Names and values of macros.
        device: The GPU.

    Raises:
        RuntimeError: If it cannot be compiled or loaded.
    """
    with _LOADING:  # otherwise, two threads would load it twice
        return _load_once(source, definitions, device)


@cache
def _load_once(source: str, definitions: Definitions, device: torch.device) -> _Loaded:
    from cuda.bindings import driver

    cubin = compile_kernel(source, definitions, architecture_of(device))
    module = check(driver.cuModuleLoadData(cubin))
    return _Loaded(check(driver.cuModuleGetFunction(module, source.removesuffix('.cu').encode())))


def check(result: tuple[Any, ...]) -> Any:
    """Check the status of a call to the driver, and return its value.

    Raises:
        RuntimeError: If the call failed.
    """
    from cuda.bindings import driver

    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f'a call of the CUDA driver failed: {status.name}')
    return values[0] if values else None
