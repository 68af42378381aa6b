"""Launching compiled kernels on PyTorch's current stream."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .compile import Definitions, compile_kernel

__all__ = ['Launch', 'Launcher', 'address', 'launch', 'multiprocessors']


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


Launcher = Callable[[Launch, torch.device], None]
"""A function like :func:`launch`; tests have one that emulates a GPU."""


def address(tensor: Tensor | None) -> int | None:
    """What a pointer argument takes."""
    return None if tensor is None else tensor.data_ptr()


@cache
def multiprocessors(device: torch.device) -> int:
    """Of a GPU; of anything else, which only an emulation runs on, one."""
    if device.type != 'cuda':
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def launch(call: Launch, device: torch.device) -> None:
    """Run a kernel on a GPU, behind what its stream has been given already.

    Raises:
        RuntimeError: If it cannot be compiled, loaded or launched.
    """
    from cuda.bindings import driver

    with torch.cuda.device(device):
        _enter_context()
        kernel = _load(call.source, call.definitions, device)
        if call.shared_bytes > 48 * 1024:
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _check(driver.cuFuncSetAttribute(kernel, attribute, call.shared_bytes))
        pointers = (ctypes.c_void_p * len(call.arguments))(*map(ctypes.addressof, call.arguments))
        stream = torch.cuda.current_stream(device).cuda_stream
        _check(
            driver.cuLaunchKernel(
                *(kernel, *call.grid, 1, call.threads, 1, 1, call.shared_bytes),
                *(stream, ctypes.addressof(pointers), 0),
            )
        )


def _enter_context() -> None:
    """Make PyTorch's context the thread's, as the runtime does when a thread first calls it."""
    from cuda.bindings import driver

    if int(_check(driver.cuCtxGetCurrent())) == 0:
        context = _check(driver.cuDevicePrimaryCtxRetain(torch.cuda.current_device()))
        _check(driver.cuCtxSetCurrent(context))


@cache
def _load(source: str, definitions: Definitions, device: torch.device) -> Any:
    from cuda.bindings import driver

    major, minor = torch.cuda.get_device_capability(device)
    cubin = compile_kernel(source, definitions, f'sm_{major}{minor}')
    module = _check(driver.cuModuleLoadData(cubin))
    return _check(driver.cuModuleGetFunction(module, source.removesuffix('.cu').encode()))


def _check(result: tuple[Any, ...]) -> Any:
    """The value of a call to the driver, or its error."""
    from cuda.bindings import driver

    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f'the CUDA driver refused: {status.name}')
    return values[0] if values else None
