"""The one place from which Triton kernels are launched, and who is told of it."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from .. import ahead

__all__ = [
    'TritonLaunch',
    'compile_triton_ahead',
    'launch',
    'listening',
    'rehearse',
    'rehearsing',
    'tell',
]

_local = threading.local()


def launch(kernel: triton.JITFunction, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Launch a kernel, which is compiled first if need be.

    Args:
        kernel: The kernel.
        grid: Programs along up to three axes.
        args: Its first arguments.
        options: Its other arguments by name, and Triton's own options.
    """
    if rehearse(TritonLaunch(kernel, args, options)):
        return
    _await_thread(kernel)
    compiled = kernel[grid](*args, **options)
    tell(lambda: (compiled, grid, {**dict(zip(kernel.arg_names, args, strict=False)), **options}))


def tell(describe: Callable[[], Any]) -> None:
    """Tell this thread's listener, if it has one, of a launch."""
    listener = getattr(_local, 'listener', None)
    if listener is not None:
        listener(describe())


@contextmanager
def listening(listener: Callable[[Any], None]) -> Iterator[None]:
    """Have a function told of every launch from this thread.

    It is given ``(compiled kernel, grid, arguments by name)`` of Triton's, and whatever else is
    told.
    """
    before = getattr(_local, 'listener', None)
    _local.listener = listener
    try:
        yield
    finally:
        _local.listener = before


class TritonLaunch(NamedTuple):
    """A launch that is rehearsed.

    Attributes:
        kernel: The kernel.
        args: Its first arguments.
        options: Its other arguments by name, and Triton's own options.
    """

    kernel: triton.JITFunction
    args: tuple[Any, ...]
    options: dict[str, Any]

    def key(self) -> tuple:
        """What it is compiled for: by Triton's rules, whether an integer is 1 or divides by 16."""
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


@contextmanager
def rehearsing(collect: Callable[[Any], None]) -> Iterator[None]:
    """Have this thread launch nothing, but give a function what it would launch."""
    before = getattr(_local, 'collect', None)
    _local.collect = collect
    try:
        yield
    finally:
        _local.collect = before


def rehearse(call: Any) -> bool:
    """Give a launch to this thread's rehearsal, if there is one; returns whether there is."""
    collect = getattr(_local, 'collect', None)
    if collect is None:
        return False
    collect(call)
    return True


_THREADS: dict[triton.JITFunction, threading.Lock] = {}


def _await_thread(kernel: triton.JITFunction) -> None:
    """Wait while a thread compiles a kernel, for whatever arguments: it may be for these."""
    if _THREADS:
        lock = _THREADS.get(kernel)
        if lock is not None:
            with lock:
                if not ahead.under_way():
                    _THREADS.clear()


def compile_triton_ahead(call: TritonLaunch, device: torch.device) -> None:
    """Have a kernel of Triton's compiled in the background that is going to be launched."""
    lock = _THREADS.setdefault(call.kernel, threading.Lock())
    name = 'triton-' + hashlib.sha256(str(call.key()).encode()).hexdigest()[:32]

    def compile_it() -> None:
        with lock, ahead.exclusively(name), torch.cuda.device(device):
            call.kernel.warmup(*call.args, grid=(1,), **call.options)

    ahead.start((call.key(), device), compile_it)
