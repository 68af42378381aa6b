"""The launch of Triton kernels; no other file launches them."""

import ctypes
import hashlib
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ..runtime import ahead
from ..runtime.launch import Prepared, prepare
from ..runtime.recording import Obstacle
from ..runtime.watch import rehearse, tell

__all__ = ['TritonLaunch', 'launch', 'prepare_triton']

SCALARS = {'i32': ctypes.c_int32, 'i64': ctypes.c_int64, 'fp32': ctypes.c_float}
"""Types of arguments by Triton's names for them."""


def launch(kernel: triton.JITFunction, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Launch a kernel, and compile it first if need be.

    Args:
        kernel: The kernel.
        grid: Programs along up to three axes.
        args: The kernel's first arguments.
        options: The kernel's other arguments by name, and Triton's own options.
    """
    call = TritonLaunch(kernel, args, options)
    if rehearse(call):
        return
    if ahead.under_way():  # a thread may compile this kernel, which should not be compiled twice
        call.compile_now(next(arg.device for arg in args if isinstance(arg, Tensor)))
    compiled = kernel[grid](*args, **options)
    tell(call, lambda: prepare_triton(compiled, grid, call.named()))


class TritonLaunch(NamedTuple):
    """A launch of a Triton kernel.

    Attributes:
        kernel: The kernel.
        args: The kernel's first arguments.
        options: The kernel's other arguments by name, and Triton's own options.
    """

    kernel: triton.JITFunction
    args: tuple[Any, ...]
    options: dict[str, Any]

    def named(self) -> dict[str, Any]:
        """All arguments and options by name."""
        return {**dict(zip(self.kernel.arg_names, self.args, strict=False)), **self.options}

    def key(self) -> tuple:
        """Identify what is compiled, which depends on integers that are 1 or multiples of 16."""
        given: list[Any] = []
        for parameter, arg in zip(self.kernel.params, self.args, strict=False):
            if isinstance(arg, Tensor):
                given.append((arg.dtype, arg.data_ptr() % 16 == 0))
            elif isinstance(arg, int):
                told = not parameter.do_not_specialize
                given.append((told and arg == 1, told and arg % 16 == 0, arg >= 2**31))
            else:
                given.append(None if arg is None else type(arg))
        return self.kernel.__name__, *map(str, (given, self.options))

    def compile_ahead(self, device: torch.device) -> None:
        """Start to compile the kernel for a GPU in the background."""
        ahead.start((self.key(), device), lambda: self._compile(device))

    def compile_now(self, device: torch.device) -> None:
        """Compile the kernel, or wait for the thread that does."""
        ahead.result((self.key(), device), lambda: self._compile(device))

    def _compile(self, device: torch.device) -> None:
        # Older versions of Triton cannot compile one kernel in several threads at the same time.
        lock = _LOCKS.setdefault(self.kernel, threading.Lock())
        name = 'triton-' + hashlib.sha256(str(self.key()).encode()).hexdigest()[:32]
        with lock, ahead.exclusively(name), torch.cuda.device(device):
            self.kernel.warmup(*self.args, grid=(1,), **self.options)


_LOCKS: dict[triton.JITFunction, threading.Lock] = {}


def prepare_triton(compiled: Any, grid: Sequence[int], named: dict[str, Any]) -> Prepared:
    """Convert a launch of a Triton kernel to a launch by the driver.

    Args:
        compiled: Triton's compiled kernel.
        grid: Programs along up to three axes.
        named: The kernel's arguments by name.

    Raises:
        Obstacle: If the kernel needs something that only Triton's own launcher provides.
        AttributeError: If this version of Triton has other internals.
    """
    metadata = compiled.metadata
    for name in ('global_scratch_size', 'profile_scratch_size', 'launch_cooperative_grid'):
        if getattr(metadata, name, 0):
            raise Obstacle(f'{metadata.name} has {name}')
    arguments = []
    for name, kind in compiled.src.signature.items():
        if kind == 'constexpr':
            continue
        if not kind.startswith('*') and kind not in SCALARS:
            raise Obstacle(f'{name} of {metadata.name} is a {kind}')
        pointer = kind.startswith('*')
        value = named[name]
        arguments.append(ctypes.c_void_p(value.data_ptr()) if pointer else SCALARS[kind](value))
    # The last parameters of every Triton kernel are pointers to scratch memory, which is not used.
    arguments += [ctypes.c_void_p(None), ctypes.c_void_p(None)]
    x, y, z = (*grid, 1, 1)[:3]
    return prepare(
        compiled.function, (x, y, z), 32 * metadata.num_warps, metadata.shared, arguments
    )
