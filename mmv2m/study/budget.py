"""How long a training is going to take, and whether that fits."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .outcome import Outcomes

__all__ = ['Budget', 'expected_seconds']

LONGEST = 300.0
"""Seconds of a training on one H200, for which the study's recipe is made."""
AROUND = 60.0
"""Seconds for what is not training: starting two processes, and the test."""


@dataclass
class Budget:
    """A time limit that no training is to cross.

    Attributes:
        minutes: The limit, from the moment this is made; None for none.
        clock: Seconds that only grow.
    """

    minutes: float | None
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def allows(self, seconds: float) -> bool:
        """Whether something that takes so long can begin."""
        if self.minutes is None:
            return True
        return self.clock() - self.started + seconds <= 60 * self.minutes


def expected_seconds(config: Path, configs: Iterable[Path], outcomes: Outcomes) -> float:
    """What a training of a config is expected to take, start and test included.

    That is the longest so far: of this config's trainings; else of any of the study's; else the
    longest that the study is made for.

    Args:
        config: The config.
        configs: All of the study's.
        outcomes: Of what was trained already.
    """
    so_far = outcomes.seconds(config) or [s for c in configs for s in outcomes.seconds(c)]
    return max(so_far, default=LONGEST) + AROUND
