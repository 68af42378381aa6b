"""Check that the optimizer and its schedules take the values of their settings."""

import inspect
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS
from torch import nn
from torch.optim import SGD

from ..errors import UserError
from .model import numbered
from .registered import require_class
from .settings import ADDED, try_out

__all__ = ['check_optimizer']

KNOWN = ('torch.optim.', 'mmengine.', 'mmpretrain.', 'mmdet.', 'mmseg.')
"""Whose optimizers and schedules can be made for a single number as for a model."""


def check_optimizer(cfg: Config) -> None:
    """Make the optimizer and the schedules of a run, for a single number in the model's place.

    Args:
        cfg: The whole config, its types and names of settings checked already.

    Raises:
        UserError: If the optimizer or a schedule is missing a setting or refuses a value.
    """
    wrapper = cfg.optim_wrapper
    if wrapper.get('optimizer') is None and 'constructor' not in wrapper:
        raise UserError('optim_wrapper has no optimizer: add optimizer=dict(type=..., lr=...)')
    settings, where = wrapper.get('optimizer'), 'optim_wrapper.optimizer'
    if not isinstance(settings, dict):
        return
    if 'type' not in settings:
        raise UserError(f"{where} has no type: add type='AdamW', or that of another optimizer")
    scope = cfg.get('default_scope') or 'mmengine'
    found = require_class(OPTIMIZERS, scope, settings['type'], where)
    _check_numbers(where, settings, found)
    weight = nn.Parameter(torch.zeros(1, 1))  # some optimizers take matrices only
    optimizer: Any = SGD([weight], lr=0.1, momentum=0.9)
    if found.__module__.startswith(KNOWN):
        own = {key: settings[key] for key in settings if key not in ADDED}
        optimizer = try_out(where, found, own, params=[weight])
    for place, schedule in numbered(cfg.get('param_scheduler'), 'param_scheduler'):
        found = require_class(PARAM_SCHEDULERS, scope, schedule['type'], place)
        if found.__module__.startswith(KNOWN):
            _try_schedule(cfg, place, schedule, found, optimizer)


def _check_numbers(where: str, settings: dict, found: Any) -> None:
    """Refuse words in the place of numbers, as YAML reads 1e-3."""
    for name, parameter in inspect.signature(found).parameters.items():
        number = isinstance(parameter.default, (int, float)) or name == 'lr'
        if number and not isinstance(parameter.default, bool):
            value = settings.get(name)
            if isinstance(value, str):
                raise UserError(f'{where}.{name} must be a number, but is the word {value!r}')


def _try_schedule(cfg: Config, where: str, schedule: dict, found: Any, optimizer: Any) -> None:
    settings = {key: schedule[key] for key in schedule if key not in ADDED}
    length = cfg.train_cfg.get('max_epochs' if settings.get('by_epoch', True) else 'max_iters')
    if length:
        settings.setdefault('end', length)
    if settings.pop('convert_to_iter_based', False):
        # The number of batches in an epoch is known when the data have been read.
        make = found.build_iter_from_epoch
        try_out(where, make, settings, epoch_length=1, optimizer=optimizer)
    else:
        try_out(where, found, settings, optimizer=optimizer)
