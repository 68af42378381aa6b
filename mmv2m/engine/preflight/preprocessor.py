"""Check what is done to a batch of images before the model gets it."""

from typing import Any

from mmengine.config import Config

from mmv2m.registry import MODELS
from mmv2m.utils.complexity import image_channels

from ..errors import UserError
from .model import inner_model, numbered
from .registered import find_class, require_class
from .settings import ADDED, check_setting_names, try_out

__all__ = ['check_preprocessor']


MADE_OF_SETTINGS = ('mmengine', 'mmpretrain', 'mmdet', 'mmseg', 'mmv2m')
"""Whose preprocessors do nothing but keep their settings when they are made."""


def check_preprocessor(cfg: Config) -> None:
    """Check the data preprocessor, and the mixing of images that classifiers hand to it.

    Args:
        cfg: The whole config, its model checked already.

    Raises:
        UserError: If a setting is not read or there is none of its name, or images cannot be
            normalised or mixed as configured.
    """
    model: Any = inner_model(cfg)
    scope = cfg.get('default_scope') or 'mmengine'
    own, common = model.get('data_preprocessor'), cfg.get('data_preprocessor')
    for name in (common or ()) if own else ():
        if name != 'type' and _as_list(own.get(name)) != _as_list(common[name]):
            raise UserError(
                f'data_preprocessor.{name} would change nothing, since the model has its own: the '
                f'setting is model.data_preprocessor.{name}'
            )
    where, given = ('model.', own) if own else ('', common)
    where += 'data_preprocessor'
    _check_normalisation(cfg, where, given or {})
    home = getattr(find_class(MODELS, scope, model.get('type')), '__module__', '')
    classifies = home.startswith('mmpretrain.models.classifiers')
    settings = (dict(type='ClsDataPreprocessor') if classifies else {}) | (given or {})
    if 'type' in settings:
        found = require_class(MODELS, settings.get('_scope_', scope), settings['type'], where)
        check_setting_names(cfg, where, settings, found)
        if found.__module__.split('.')[0] in MADE_OF_SETTINGS:
            try_out(where, found, {k: settings[k] for k in settings if k not in ADDED})
    if classifies and not settings.get('batch_augments') and model.get('train_cfg'):
        _check_mixing(cfg, 'model.train_cfg', model.train_cfg)


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_normalisation(cfg: Config, where: str, given: dict) -> None:
    """Refuse a mean or a standard deviation for another number of channels than images have."""
    channels = image_channels(cfg)
    for name in ('mean', 'std'):
        value = given.get(name)
        if isinstance(value, (list, tuple)) and len(value) not in (1, 3, channels):
            raise UserError(
                f'{where}.{name} has {len(value)} numbers, but images have {channels} channels: it '
                'needs a number for each'
            )


def _check_mixing(cfg: Config, where: str, settings: dict) -> None:
    """Check mmpretrain's Mixup, CutMix and the like."""
    from mmpretrain.models.utils.batch_augments import RandomBatchAugment
    from mmpretrain.registry import BATCH_AUGMENTS

    check_setting_names(cfg, where, settings, RandomBatchAugment)
    for place, augment in numbered(settings.get('augments'), f'{where}.augments'):
        if 'type' in augment:
            found = require_class(BATCH_AUGMENTS, 'mmpretrain', augment['type'], place)
            check_setting_names(cfg, place, augment, found)
    try_out(where, RandomBatchAugment, settings)
