"""The goals that the measurements are compared with.

The speeds and the memory of V2M-T and V2M-S are goals for an H200. On any GPU, the pyramids are to
be no slower than the Swins and to take no more memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ['MODEL_GOALS', 'SCAN_SHARE', 'Goal', 'goal_of']

SCAN_SHARE = 0.6
"""The share of the floor that the forward scan is to reach."""


@dataclass(frozen=True)
class Goal:
    """Figures of one model, eager, at 224 x 224 with batches of 128 under bfloat16 autocast.

    Attributes:
        inference, training: Images per second.
        peak_gib: Peak memory in training, in GiB.
    """

    inference: float
    training: float
    peak_gib: float


MODEL_GOALS: Mapping[str, Goal | str] = {
    'V2M-T': Goal(8000, 2500, 4.6),
    'V2M-S': Goal(3500, 1100, 8.9),
    'V2M-S*': 'Swin-T',
    'V2M-B*': 'Swin-S',
}
"""For each model, the figures to reach, or the name of the model that it is compared with."""


def goal_of(model: str, gpu: str, figures: Mapping[str, Mapping[str, Any]]) -> Goal | None:
    """Return the goal of a model on a GPU, or None if it has no goal.

    Args:
        model: Its name.
        gpu: ``'h200'``, or another GPU, for which only the comparisons hold.
        figures: The measured ``inference``, ``training`` and ``peak_gib`` by model.
    """
    goal = MODEL_GOALS.get(model)
    if isinstance(goal, str):
        other = figures.get(goal, {})
        complete = {'inference', 'training', 'peak_gib'} <= other.keys()
        return Goal(**other) if complete else None
    return goal if gpu == 'h200' else None
