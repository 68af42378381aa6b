"""The expected duration of a training, and a time limit."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .outcome import Outcomes

__all__ = ['Budget', 'expected_seconds']

LONGEST = 300.0
"""Seconds of a training on one H200, for which the study's recipe is made."""
AROUND = 60.0
"""Seconds for the start of two processes, and for the test."""


@dataclass
class Budget:
    """A time limit that no training is to cross.

    Attributes:
        minutes: The limit, counted from the creation of this object; None for no limit.
        clock: Function that gives the time in seconds.
    """

    minutes: float | None
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def allows(self, seconds: float) -> bool:
        """Whether a training of this duration can still begin."""
        if self.minutes is None:
            return True
        return self.clock() - self.started + seconds <= 60 * self.minutes


def expected_seconds(config: Path, configs: Iterable[Path], outcomes: Outcomes) -> float:
    """Seconds that a training of a config is expected to take, with its start and its test.

    This is the longest training of the config so far. If there is none, it is the longest training
    of the study, and without any training it is the longest that the study is made for.

    Args:
        config: The config.
        configs: All configs of the study.
        outcomes: Results of the trainings so far.
    """
    so_far = outcomes.seconds(config) or [s for c in configs for s in outcomes.seconds(c)]
    return max(so_far, default=LONGEST) + AROUND
