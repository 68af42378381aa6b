"""Metrics that a training waits for, and that its validation does not give."""

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.optim import ReduceOnPlateauParamScheduler
from mmengine.runner import Runner

from ..errors import UserError

__all__ = ['MonitorHook']


class MonitorHook(Hook):
    """Refuse to monitor a metric that there is not, at the first validation.

    Which metrics there are is known then. mmengine's EarlyStoppingHook only warns, and never stops;
    its schedules that wait for a plateau raise a KeyError. ``tools/train.py`` registers this hook.
    """

    priority = 'HIGHEST'

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Compare the metrics with those that are monitored.

        Raises:
            UserError: If one is missing.
        """
        for name, monitor in _monitors(runner):
            if metrics and monitor not in metrics:
                raise UserError(
                    f'{name} monitors {monitor!r}, but the validation gives {", ".join(metrics)}'
                )


def _monitors(runner: Runner) -> Iterator[tuple[str, str]]:
    hooks: list[Any] = runner.hooks
    for hook in hooks:
        if isinstance(hook, EarlyStoppingHook):
            yield type(hook).__name__, hook.monitor
    schedules: Any = runner.param_schedulers
    # There is one list, or one for each of several optimizers.
    lists = schedules.values() if isinstance(schedules, dict) else [schedules or ()]
    for schedule in (one for several in lists for one in several):
        if isinstance(schedule, ReduceOnPlateauParamScheduler):
            yield type(schedule).__name__, schedule.monitor
