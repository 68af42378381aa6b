"""Compilation of kernels before they are launched: several at a time, once for all processes.

A kernel is compiled by a function that returns it. :func:`start` lets threads call such functions,
and :func:`result` waits for a kernel that is needed now.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ['cache_folder', 'compiling', 'exclusively', 'result', 'start', 'under_way']

_FUTURES: dict[Hashable, Future] = {}
_UNDER_WAY: set[Hashable] = set()
_LOCK = threading.Lock()


def cache_folder() -> Path:
    """The folder of compiled kernels: ``$MMV2M_CACHE_DIR``, by default ``~/.cache/mmv2m``."""
    # An empty variable counts as unset. Otherwise, it would stand for the current folder.
    return Path(os.environ.get('MMV2M_CACHE_DIR') or '~/.cache/mmv2m').expanduser()


@cache
def _threads() -> ThreadPoolExecutor:
    # Threads suffice: they mostly wait for processes, or for compilers that let other threads run.
    return ThreadPoolExecutor(max_workers=_cores(), thread_name_prefix='mmv2m-compile')


def _cores() -> int:
    available = getattr(os, 'sched_getaffinity', None)
    return len(available(0)) if available else os.cpu_count() or 1


def start(key: Hashable, function: Callable[[], Any]) -> None:
    """Let a thread compile a kernel, unless that has been asked for already.

    Args:
        key: Identifies the kernel.
        function: Function that compiles and returns it.
    """
    with _LOCK:
        if key not in _FUTURES:
            _UNDER_WAY.add(key)
            _FUTURES[key] = _threads().submit(function)
            _FUTURES[key].add_done_callback(lambda future: _UNDER_WAY.discard(key))


def result(key: Hashable, function: Callable[[], Any]) -> Any:
    """Wait for a kernel that is needed now, or compile it here if no thread has begun with it.

    Args:
        key: See :func:`start`.
        function: See :func:`start`.
    """
    future = _FUTURES.get(key)
    if future is None or future.cancel():
        return function()
    return future.result()


def under_way() -> bool:
    """Whether threads are compiling kernels, or have some left to compile."""
    return bool(_UNDER_WAY)


@contextlib.contextmanager
def exclusively(name: str) -> Iterator[None]:
    """Let one thread of one process at a time do something; others wait.

    The system releases the lock of a process that dies. If nothing can be locked, because the cache
    cannot be written or the file system has no locks, nothing waits.

    Args:
        name: Name of the lock, which is a file in the cache.
    """
    with contextlib.ExitStack() as stack:
        path = cache_folder() / f'{name}.lock'
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open('w'))
            fcntl.flock(file, fcntl.LOCK_EX)
            # To close the file is not enough: a process that was forked meanwhile has it open too.
            stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
            # The file may be removed: processes that wait for it, and later ones, find the work
            # done.
            stack.callback(lambda: path.unlink(missing_ok=True))
        yield


class _Told:
    """The state of this process's log messages about compilation."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.busy = self.compiled = 0
        self.begun: float | None = None
        self.said = False


_TOLD = _Told()


@contextlib.contextmanager
def compiling(architecture: str) -> Iterator[None]:
    """A context for the compilation of one kernel, which logs the first one and the total time.

    Args:
        architecture: The GPU's architecture, such as ``'sm_90'``.
    """
    log = logging.getLogger('mmv2m')
    with _TOLD.lock:
        _TOLD.busy += 1
        _TOLD.begun = _TOLD.begun or time.monotonic()
        if not _TOLD.said and os.environ.get('LOCAL_RANK', '0') == '0':
            log.warning(
                'compiling kernels for %s on up to %d cores, which takes some seconds; they are '
                'kept in %s and compiled only once',
                *(architecture, _cores(), cache_folder()),
            )
        _TOLD.said = True
    try:
        yield
    finally:
        with _TOLD.lock:
            _TOLD.busy -= 1
            _TOLD.compiled += 1
            if not _TOLD.busy and _TOLD.begun is not None:
                seconds = time.monotonic() - _TOLD.begun
                log.info('compiled %d kernels in %.1f s', _TOLD.compiled, seconds)
                _TOLD.compiled, _TOLD.begun = 0, None
