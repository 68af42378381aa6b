"""What the measurements are held against.

Speeds and memory of V2M-T and V2M-S are for an H200; on any GPU the pyramids are to be no slower
than the Swins and to take no more memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ['MODEL_GOALS', 'SCAN_SHARE', 'Goal', 'goal_of']

SCAN_SHARE = 0.6
"""Of the floor that the forward scan is to reach."""


@dataclass(frozen=True)
class Goal:
    """Of one model, at 224 x 224, batch 128, bfloat16 autocast, eager.

    Attributes:
        inference, training: Images a second.
        peak_gib: Peak memory in training.
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
"""By model: figures, or the model that it is held against."""


def goal_of(model: str, gpu: str, figures: Mapping[str, Mapping[str, Any]]) -> Goal | None:
    """The goal of a model on a GPU, if there is one.

    Args:
        model: Its name.
        gpu: ``'h200'`` or another, where only the comparisons hold.
        figures: The measured ``inference``, ``training`` and ``peak_gib`` by model.
    """
    goal = MODEL_GOALS.get(model)
    if isinstance(goal, str):
        other = figures.get(goal, {})
        complete = {'inference', 'training', 'peak_gib'} <= other.keys()
        return Goal(**other) if complete else None
    return goal if gpu == 'h200' else None
