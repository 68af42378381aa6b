"""Steps that take turns, so that a machine that gets slower does so for all of them."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

__all__ = ['Step', 'take_turns']

Step = Callable[[], object]
Name = TypeVar('Name')


def take_turns(steps: Mapping[Name, Step], rounds: int) -> dict[Name, list[float]]:
    """Return the milliseconds of each turn of each step, after one round that warms up.

    Args:
        steps: The steps by name.
        rounds: Number of turns of each step.
    """
    times: dict[Name, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - begun) * 1e3)
    return {name: found[1:] for name, found in times.items()}
