"""Compiling kernels before they are launched: several at a time, and once for all processes.

What compiles a kernel is a function that returns it. :func:`start` has threads call such functions,
:func:`result` is for whoever needs a kernel now.
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
    """Where compiled kernels are kept: ``$MMV2M_CACHE_DIR``, by default ``~/.cache/mmv2m``."""
    # An empty variable is as good as none: otherwise kernels would land in the current folder.
    return Path(os.environ.get('MMV2M_CACHE_DIR') or '~/.cache/mmv2m').expanduser()


@cache
def _threads() -> ThreadPoolExecutor:
    # What they call mostly waits for processes, or for compilers that let other threads run.
    return ThreadPoolExecutor(max_workers=_cores(), thread_name_prefix='mmv2m-compile')


def _cores() -> int:
    available = getattr(os, 'sched_getaffinity', None)
    return len(available(0)) if available else os.cpu_count() or 1


def start(key: Hashable, function: Callable[[], Any]) -> None:
    """Have a thread compile a kernel, unless that has been asked for already.

    Args:
        key: Tells the kernel.
        function: Compiles it.
    """
    with _LOCK:
        if key not in _FUTURES:
            _UNDER_WAY.add(key)
            _FUTURES[key] = _threads().submit(function)
            _FUTURES[key].add_done_callback(lambda future: _UNDER_WAY.discard(key))


def result(key: Hashable, function: Callable[[], Any]) -> Any:
    """A kernel that is needed now; one that no thread has begun with is compiled here.

    Args:
        key: As for :func:`start`.
        function: Compiles it.
    """
    future = _FUTURES.get(key)
    if future is None or future.cancel():
        return function()
    return future.result()


def under_way() -> bool:
    """Whether threads are compiling, or are going to."""
    return bool(_UNDER_WAY)


@contextlib.contextmanager
def exclusively(name: str) -> Iterator[None]:
    """Let one thread of one process at a time do something; others wait.

    The system lifts the lock of a process that dies. Where nothing can be locked, because the cache
    cannot be written or the file system has no locks, nobody waits.

    Args:
        name: Of the lock, a file's in the cache.
    """
    with contextlib.ExitStack() as stack:
        path = cache_folder() / f'{name}.lock'
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open('w'))
            fcntl.flock(file, fcntl.LOCK_EX)
            # Closing the file is not enough: a process that was forked meanwhile has it open too.
            stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
            # Whoever waits for the removed file finds the work done; so does whoever comes later.
            stack.callback(lambda: path.unlink(missing_ok=True))
        yield


class _Told:
    """What the log has been told in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.busy = self.compiled = 0
        self.begun: float | None = None
        self.said = False


_TOLD = _Told()


@contextlib.contextmanager
def compiling(architecture: str) -> Iterator[None]:
    """Around compiling one kernel: the first one logs that, and the last one how long all took.

    Args:
        architecture: What it is compiled for.
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
