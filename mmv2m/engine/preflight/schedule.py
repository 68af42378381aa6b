"""Check that hooks, learning rates and groups of parameters count and name what the run has."""

import inspect
from collections.abc import Callable
from typing import Any

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from mmv2m.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmv2m.utils.suggestions import unknown_setting

from ..errors import UserError
from ..optim.paramwise import check_paramwise
from .hooks import hooks
from .model import numbered
from .registered import find_class, require_class
from .settings import type_name

__all__ = ['check_schedule']

AUTO_SCALE = ('enable', 'base_batch_size')
"""What mmengine reads of ``auto_scale_lr``."""


CLIPPING: dict[Any, Callable[..., Any]] = dict(norm=clip_grad_norm_, value=clip_grad_value_)
"""What ``clip_grad`` has arguments of, by its type."""


def check_schedule(cfg: Config) -> None:
    """Check settings that mmengine would take without a word, and never act on, or fail at late.

    Args:
        cfg: The whole config.

    Raises:
        UserError: With the first of them, and what would have an effect.
    """
    loop = cfg.get('train_cfg') or {}
    if loop.get('by_epoch') is False or type_name(loop) == 'IterBasedTrainLoop':
        _check_iterations(cfg)
    _check_beginnings(cfg, loop)
    _check_auto_scale(cfg.get('auto_scale_lr') or {})
    _check_constructor(cfg)
    _check_clipping((cfg.get('optim_wrapper') or {}).get('clip_grad'))


def _check_iterations(cfg: Config) -> None:
    """Refuse what waits for the end of an epoch, which a training by iterations has only once."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('by_epoch', True) and hook.get('interval', -1) > 0:
        raise UserError(
            'default_hooks.checkpoint counts epochs and train_cfg counts iterations, so that '
            'nothing would be saved before the end: set by_epoch=False in '
            'default_hooks.checkpoint, and its interval in iterations'
        )
    for where, scheduler in numbered(cfg.get('param_scheduler'), 'param_scheduler'):
        after_validation = type_name(scheduler).startswith('ReduceOnPlateau')
        by_iter = not scheduler.get('by_epoch', True) or scheduler.get('convert_to_iter_based')
        if not by_iter and not after_validation:
            raise UserError(
                f'{where} ({type_name(scheduler)}) counts epochs and train_cfg counts iterations, '
                'so that it would never change anything: set by_epoch=False in it, and its '
                'begin, end and lengths in iterations'
            )


def _check_beginnings(cfg: Config, loop: dict) -> None:
    """Refuse hooks, such as averages of weights, that begin when the training is over."""
    for where, hook in hooks(cfg):
        for unit in ('epoch', 'iter'):
            begin, end = hook.get(f'begin_{unit}'), loop.get(f'max_{unit}s')
            if isinstance(begin, int) and isinstance(end, int) and begin > end:
                raise UserError(
                    f'{where}.begin_{unit} is {begin}, but train_cfg.max_{unit}s is {end}, so that '
                    'the hook would never begin'
                )


def _check_auto_scale(settings: dict) -> None:
    for name in settings:
        if name not in AUTO_SCALE:
            raise UserError(f'auto_scale_lr: {unknown_setting(name, AUTO_SCALE)}')
    base = settings.get('base_batch_size')
    if settings.get('enable') and (not isinstance(base, int) or base < 1):
        raise UserError(
            'auto_scale_lr needs base_batch_size, the number of images in a step that the learning '
            f'rate is for, but it is {base!r}'
        )


def _check_constructor(cfg: Config) -> None:
    """Refuse a constructor that there is not, and what it would not read."""
    wrapper = cfg.get('optim_wrapper') or {}
    scope = cfg.get('default_scope') or 'mmengine'
    name = wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    found = require_class(OPTIM_WRAPPER_CONSTRUCTORS, scope, name, 'optim_wrapper.constructor')
    optimizer = find_class(OPTIMIZERS, scope, (wrapper.get('optimizer') or {}).get('type'))
    try:
        check_paramwise(wrapper.get('paramwise_cfg') or {}, found, optimizer)
    except ValueError as error:
        raise UserError(f'optim_wrapper: {error}') from error


def _check_clipping(settings: object) -> None:
    """Refuse arguments that PyTorch's clipping has not, which the first step would fail at."""
    where = 'optim_wrapper.clip_grad'
    if settings is None:
        return
    if not isinstance(settings, dict):
        raise UserError(f'{where} is {settings!r}, where a dict such as dict(max_norm=5.0) belongs')
    kind = settings.get('type', 'norm')
    if kind not in CLIPPING:
        raise UserError(f'{where}.type must be norm or value, but is {kind!r}')
    _, *known = inspect.signature(CLIPPING[kind]).parameters
    for name in settings:
        if name != 'type' and name not in known:
            raise UserError(f'{where}: {unknown_setting(name, known)}')
    if known[0] not in settings:
        raise UserError(f'{where} of type {kind} needs {known[0]}')
