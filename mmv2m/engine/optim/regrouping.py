"""Resuming checkpoints whose optimizer had its parameters in other groups."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mmengine.optim import OptimWrapper
from torch import nn

from ..errors import UserError

__all__ = ['regroup_checkpoint']

NAMES = ('params', 'param_names')
GROUP_LISTS = ('base_values', '_last_value', 'min_values')
"""The lists of mmengine's parameter schedulers that have one entry for each group."""


class _Place(NamedTuple):
    """The place of a parameter in a saved optimizer: its group, and the key of its moments."""

    group: int
    key: int


def regroup_checkpoint(checkpoint: dict[str, Any], wrapper: OptimWrapper, model: nn.Module) -> None:
    """Put a checkpoint's optimizer and schedulers into the groups of a run, in place.

    Parameters are found by the names in the saved groups. mmengine's default constructor saves no
    names; then parameters are taken in the model's order.

    Args:
        checkpoint: A checkpoint that mmengine's runner has saved.
        wrapper: The optimizer wrapper of the run, made by :class:`.GroupedOptimWrapperConstructor`.
        model: The model of the run.

    Raises:
        UserError: If the checkpoint has other parameters, or different settings for parameters
            that share a group in this run.
    """
    saved, groups = checkpoint['optimizer'], wrapper.optimizer.param_groups
    places = _find(saved['param_groups'], groups, model)
    sources = [_sources(places, group['param_names']) for group in groups]
    for schedulers in _lists_of_schedulers(checkpoint.get('param_schedulers', [])):
        for i, scheduler in enumerate(schedulers):
            schedulers[i] = _scheduler(scheduler, sources, saved, wrapper)
    regrouped = [
        _group(group, source, saved['param_groups'], places)
        for group, source in zip(groups, sources, strict=True)
    ]
    base = _base_settings(saved, wrapper)
    kept = {place.key for place in places.values()} & saved['state'].keys()
    state = {key: saved['state'][key] for key in kept}
    checkpoint['optimizer'] = dict(saved, state=state, param_groups=regrouped)
    checkpoint['optimizer'].pop('base_param_settings', None)
    if base is not None:
        checkpoint['optimizer']['base_param_settings'] = base


def _find(saved: Sequence[dict], groups: Sequence[dict], model: nn.Module) -> dict[str, _Place]:
    """The places of this run's parameters, by name."""
    places = [_Place(i, key) for i, group in enumerate(saved) for key in group['params']]
    wanted = {name for group in groups for name in group['param_names']}
    names = _saved_names(saved, len(places), wanted, model)
    found = dict(zip(names, places, strict=True))
    if missing := wanted - found.keys():
        raise UserError(
            f"the checkpoint's optimizer lacks {len(missing)} of the parameters that are trained "
            f'here, such as {min(missing)}: load its weights by load_from without resume'
        )
    return {name: place for name, place in found.items() if name in wanted}


def _saved_names(
    saved: Sequence[dict], total: int, wanted: set[str], model: nn.Module
) -> Iterable[str]:
    if all('param_names' in group for group in saved):
        return [name for group in saved for name in group['param_names']]
    if all('param_name' in group for group in saved):  # mmpretrain's layer-wise decay
        return [group['param_name'] for group in saved]
    if len(saved) == 1 or len(saved) == total:
        ordered = [name for name, _ in model.named_parameters()]
        # A single group contains frozen parameters too.
        for names in ([name for name in ordered if name in wanted], ordered):
            if len(names) == total:
                return names
        raise UserError(
            f"the checkpoint's optimizer has {total} parameters without names, and this run "
            f'{len(wanted)}: which is which cannot be told'
        )
    raise UserError(
        f"the checkpoint's optimizer has {total} parameters without names in {len(saved)} groups: "
        'which is which cannot be told'
    )


def _sources(places: dict[str, _Place], names: Sequence[str]) -> dict[int, str]:
    """The saved groups that a group's parameters were in, each with one of these parameters."""
    sources: dict[int, str] = {}
    for name in names:
        sources.setdefault(places[name].group, name)
    return sources


def _group(
    group: dict, source: dict[int, str], saved: Sequence[dict], places: dict[str, _Place]
) -> dict:
    """A group of this run with the settings that its parameters were saved with."""
    first, *others = source
    keys = [
        key
        for key in saved[first]
        if key not in NAMES and (key in group or key.startswith('initial_'))
    ]
    for other in others:
        for key in keys:
            if saved[other].get(key) != saved[first][key]:
                raise UserError(
                    f'the checkpoint has {key}={saved[first][key]} for {source[first]} and '
                    f'{saved[other].get(key)} for {source[other]}, which have the same settings in '
                    'this run: resume with the settings that it was trained with'
                )
    settings = {key: saved[first][key] for key in keys}
    names = group['param_names']
    return dict(settings, params=[places[name].key for name in names], param_names=list(names))


def _base_settings(saved: dict[str, Any], wrapper: OptimWrapper) -> dict | None:
    """The settings that mmengine schedules beside several groups, to log them as ``base_lr``."""
    if wrapper.base_param_settings is None:
        return None
    if (base := saved.get('base_param_settings')) is not None:
        return base
    first = saved['param_groups'][0]
    return {key: first.get(key, value) for key, value in wrapper.base_param_settings.items()} | {
        'params': wrapper.base_param_settings['params']
    }


def _lists_of_schedulers(schedulers: list | dict[str, list]) -> Iterable[list]:
    return schedulers.values() if isinstance(schedulers, dict) else [schedulers]


def _scheduler(
    scheduler: dict[str, Any], sources: Sequence[dict[int, str]], saved: dict, wrapper: OptimWrapper
) -> dict[str, Any]:
    """A scheduler's state for the groups of this run."""
    has_base = saved.get('base_param_settings') is not None
    total = len(saved['param_groups']) + has_base
    regrouped = dict(scheduler)
    for key in GROUP_LISTS:
        values = scheduler.get(key)
        if not isinstance(values, list):
            continue
        if len(values) != total:
            raise UserError(
                f"a scheduler of the checkpoint has {len(values)} {key} for the optimizer's {total}"
            )
        regrouped[key] = [values[next(iter(source))] for source in sources]
        if wrapper.base_param_settings is not None:
            regrouped[key].append(values[-1] if has_base else values[0])
    return regrouped
