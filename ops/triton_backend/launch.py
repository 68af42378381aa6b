"""The one place from which Triton kernels are launched, and who is told of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import triton

__all__ = ['launch', 'listening', 'tell']

_local = threading.local()


def launch(kernel: triton.JITFunction, grid: tuple[int, ...], *args: Any, **options: Any) -> None:
    """Launch a kernel, which is compiled first if need be.

    Args:
        kernel: The kernel.
        grid: Programs along up to three axes.
        args: Its first arguments.
        options: Its other arguments by name, and Triton's own options.
    """
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
