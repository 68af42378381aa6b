"""Check that hooks are those that there are, and come when a config says so."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel
from mmengine.registry import HOOKS
from mmengine.runner.priority import Priority
from torch import nn

from mmv2m.registry import MODELS
from mmv2m.utils.arguments import arguments
from mmv2m.utils.suggestions import did_you_mean

from ..errors import UserError
from .model import numbered
from .registered import require_class
from .settings import ADDED, check_setting_names, try_out

__all__ = ['check_hooks', 'hooks']

DEFAULT_HOOKS = dict(
    runtime_info='RuntimeInfoHook',
    timer='IterTimerHook',
    sampler_seed='DistSamplerSeedHook',
    logger='LoggerHook',
    param_scheduler='ParamSchedulerHook',
    checkpoint='CheckpointHook',
)
"""What mmengine registers in any run, by the name that replaces it."""

PRIORITIES = [priority.name for priority in Priority]


def check_hooks(cfg: Config) -> None:
    """Check the hooks, their types checked already.

    Args:
        cfg: The whole config.

    Raises:
        UserError: If a hook has no type, a priority is none, mmengine's own hooks refuse their
            settings, or an average of the weights is unknown.
    """
    scope = cfg.get('default_scope') or 'mmengine'
    for name in cfg.get('default_hooks') or {}:
        near = did_you_mean(name, DEFAULT_HOOKS, cutoff=0.8)
        if name not in DEFAULT_HOOKS and near:
            raise UserError(f'default_hooks: no hook of mmengine has the name {name!r}{near}')
    for where, hook in hooks(cfg):
        _check_priority(where, hook.get('priority'))
        scope_of_hook = hook.get('_scope_', scope)
        found = require_class(HOOKS, scope_of_hook, hook['type'], where)
        if isinstance(found, type) and issubclass(found, EMAHook):
            _check_average(cfg, where, hook, found, scope_of_hook)
        # Others may act as soon as they are made.
        if found.__module__.startswith('mmengine.') or found.__name__ == 'EMAHook':
            try_out(where, found, {k: hook[k] for k in hook if k not in (*ADDED, 'priority')})


def hooks(cfg: Config) -> Iterator[tuple[str, dict]]:
    """Every hook that a config configures, and where it stands.

    Raises:
        UserError: If one is no dict or has no type.
    """
    default, custom = cfg.get('default_hooks') or {}, cfg.get('custom_hooks') or ()
    if not isinstance(custom, (list, tuple)):
        raise UserError('custom_hooks is no list: write custom_hooks=[dict(type=...), ...]')
    named = [(f'default_hooks.{name}', hook) for name, hook in default.items()]
    for where, hook in (*named, *numbered(custom, 'custom_hooks')):
        if hook is None and where.rpartition('.')[2] in DEFAULT_HOOKS:
            continue  # which is how mmengine's own is left out
        if isinstance(hook, dict) and 'type' not in hook:
            usual = DEFAULT_HOOKS.get(where.rpartition('.')[2])
            hint = f"; mmengine's own is type={usual!r}" if usual else ''
            raise UserError(f'{where} has no type{hint}')
        if isinstance(hook, dict):
            yield where, hook


def _check_priority(where: str, priority: Any) -> None:
    if isinstance(priority, str):
        if priority.upper() not in PRIORITIES:
            near = did_you_mean(priority, PRIORITIES) or f'; there are {", ".join(PRIORITIES)}'
            raise UserError(f'{where}: no priority {priority!r}{near}')
    elif isinstance(priority, int) and not 0 <= priority <= 100:
        raise UserError(
            f'{where}: priority must be from 0, the first, to 100, the last, but is {priority}'
        )


def _check_average(cfg: Config, where: str, hook: dict, found: type, scope: str) -> None:
    """Check the average of an EMAHook, which gets the settings that the hook itself has not."""
    name = hook.get('ema_type', 'ExponentialMovingAverage')
    average = require_class(MODELS, scope, name, f'{where}.ema_type')
    if not isinstance(average, type) or not issubclass(average, BaseAveragedModel):
        raise UserError(f'{where}.ema_type is {name}, which is no average of the weights')
    own = (*arguments(found)[0], *ADDED, 'priority')
    settings = {key: hook[key] for key in hook if key not in own}
    check_setting_names(cfg, where, settings, average)
    try_out(where, average, settings, model=nn.Identity())
