"""Listeners for this thread's launches, and rehearsals, which launch nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ['is_rehearsing', 'listening', 'rehearse', 'rehearsing', 'tell']

_local = threading.local()


def tell(call: Any, prepare: Callable[[], Any]) -> None:
    """Tell this thread's listener about a launch, if there is a listener.

    Args:
        call: The launch.
        prepare: Function that returns the launch as a :class:`.launch.Prepared`.
    """
    listener = getattr(_local, 'listener', None)
    if listener is not None:
        listener(call, prepare)


def listening(listener: Callable[[Any, Callable[[], Any]], None]) -> Any:
    """A context in which a function is called for every launch of this thread; see :func:`tell`."""
    return _set_for_a_while('listener', listener)


def rehearsing(collect: Callable[[Any], None]) -> Any:
    """A context in which this thread passes its launches to a function instead of launching."""
    return _set_for_a_while('collect', collect)


def rehearse(call: Any) -> bool:
    """Pass a launch to this thread's rehearsal, and return whether there is one."""
    collect = getattr(_local, 'collect', None)
    if collect is None:
        return False
    collect(call)
    return True


def is_rehearsing() -> bool:
    """Whether this thread is in a rehearsal; see :func:`rehearsing`."""
    return getattr(_local, 'collect', None) is not None


@contextmanager
def _set_for_a_while(name: str, value: Any) -> Iterator[None]:
    before = getattr(_local, name, None)
    setattr(_local, name, value)
    try:
        yield
    finally:
        setattr(_local, name, before)
