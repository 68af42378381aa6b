"""Settings that a resumed training takes from its checkpoint although the config differs."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from ..errors import UserError

__all__ = ['tell_differences']

HOW = ('foreach', 'fused', 'capturable', 'differentiable', 'params', 'param_names')
"""Entries of a group that do not affect the result of its step."""

STATE = ('last_step', 'base_values', 'min_values', 'verbose')
"""Entries of a scheduler that a training changes."""


def tell_differences(runner: Runner, checkpoint: dict[str, Any], wrapper: OptimWrapper) -> None:
    """Warn of settings in the config that a resume replaces by the checkpoint's settings.

    Args:
        runner: The runner, before it loads the checkpoint's states.
        checkpoint: The checkpoint, with the runner's groups of parameters.
        wrapper: The runner's optimizer wrapper.

    Raises:
        UserError: If the checkpoint is of another kind of optimizer, or has another number of
            schedules.
    """
    saved, groups = checkpoint['optimizer']['param_groups'], wrapper.optimizer.param_groups
    found = list(_of_groups(saved, groups)) if len(saved) == len(groups) else []
    schedulers, states = runner.param_schedulers, checkpoint.get('param_schedulers')
    if isinstance(schedulers, list) and isinstance(states, list) and states:
        if len(schedulers) != len(states):
            raise UserError(
                f'the checkpoint has {len(states)} schedules and param_scheduler has '
                f'{len(schedulers)}: resume with the schedules that it was trained with, or load '
                'its weights by load_from without resume'
            )
        for i, (scheduler, state) in enumerate(zip(schedulers, states, strict=True)):
            found += _of_scheduler(f'param_scheduler[{i}].', scheduler.state_dict(), state)
    if found:
        runner.logger.warning(
            "A resumed training keeps its checkpoint's settings, whatever the config says: "
            + '; '.join(dict.fromkeys(found))
        )


def _of_groups(saved: Sequence[dict], groups: Sequence[dict]) -> Iterator[str]:
    for before, group in zip(saved, groups, strict=True):
        for key in group:
            if key in HOW or key.startswith('initial_'):
                continue
            if key not in before:
                if isinstance(group[key], bool):  # newer versions of PyTorch add switches
                    continue
                raise UserError(
                    f"the checkpoint's optimizer has no {key}, so it is another one than "
                    'optim_wrapper.optimizer: resume with that one, or load its weights by '
                    'load_from without resume'
                )
            # A setting that a schedule changes is compared by its value at the start.
            first = f'initial_{key}'
            old, new = before.get(first, before[key]), group.get(first, group[key])
            scheduled = key in ('betas', 'momentum') and 'initial_momentum' in before
            if not scheduled and _plain(old) != _plain(new):
                yield f'{key} is {old}, not {new}'


def _of_scheduler(where: str, new: dict[str, Any], old: dict[str, Any]) -> Iterator[str]:
    for key in new.keys() & old.keys():
        if key not in STATE and not key.startswith('_') and _plain(new[key]) != _plain(old[key]):
            yield f'{where}{key} is {old[key]}, not {new[key]}'


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
