"""Checks of the model's config."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import WEIGHT_INITIALIZERS

from mmv2m.registry import MODELS
from mmv2m.utils.arguments import required, takes

from ..errors import UserError
from .files import check_checkpoint
from .registered import find_class, require_class
from .settings import check_setting_names, type_name

__all__ = ['check_model', 'inner_model', 'model_parts', 'numbered']

PARTS = ('model', 'module', 'backbone', 'neck', 'head', 'data_preprocessor')
"""Settings whose ``type`` is always a model's; others may belong to other registries."""

LOSSES = ('loss', 'loss_decode', 'loss_cls', 'loss_bbox', 'loss_mask')
"""Settings whose ``type`` is always a loss's. Some heads read settings that its class has not."""


def check_model(cfg: Config) -> None:
    """Check the types, the settings and the pretrained weights that a model's config names.

    A class says which settings it takes by a classmethod ``check_settings(**settings)`` that
    raises ValueError or TypeError.

    Args:
        cfg: The whole config.

    Raises:
        UserError: If a part is not registered, its class refuses its settings, or the weights that
            an ``init_cfg`` loads do not exist.
    """
    if cfg.get('model') is None:
        raise UserError('the config has no model')
    _check_types(cfg)
    for where, part, scope in model_parts(cfg):
        _check_part(cfg, where, part, scope)
    _check_pretrained(cfg)


def model_parts(cfg: Config) -> Iterator[tuple[str, dict, str]]:
    """Every dict with a ``type`` in a config's model, where it stands, and its scope."""
    return _parts(cfg.model, 'model', cfg.get('default_scope') or 'mmengine')


def inner_model(cfg: Config) -> dict:
    """The settings of a config's model, without those of test-time augmentation around it."""
    model = cfg.model
    while 'backbone' not in model and isinstance(model.get('module'), dict):
        model = model['module']
    return model


def numbered(value: Any, where: str) -> Iterator[tuple[str, dict]]:
    """A part of a config, or each of a list of them, and where it stands.

    Raises:
        UserError: If one is a word, as a dict on the command line is.
    """
    if isinstance(value, dict):
        yield where, value
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            if isinstance(part, str):
                raise UserError(f'{where}[{i}] is the word {part!r}, where a dict belongs')
            yield f'{where}[{i}]', part


def _check_types(cfg: Config) -> None:
    """Refuse a model, or a part of it, of which nothing says what it is."""
    model = inner_model(cfg)
    parts = [('model', model)]
    for key in model:
        if key.endswith(PARTS) and key != 'data_preprocessor':
            parts += numbered(model[key], f'model.{key}')
    for where, part in parts:
        if isinstance(part, dict) and 'type' not in part:
            raise UserError(f'{where} has no type, which says what it is')
    if type_name(model) == 'ImageClassifier' and model.get('head') is None:
        raise UserError(
            "model has no head, which gives the scores of classes: add head=dict(type='LinearCls"
            "Head', num_classes=..., in_channels=...)"
        )


def _check_part(cfg: Config, where: str, part: dict, scope: str) -> None:
    name = part['type']
    if name == 'Pretrained' and isinstance(part.get('checkpoint'), str):
        check_checkpoint(part['checkpoint'], f'{where}.checkpoint')
        return
    key = where.rstrip('[]0123456789').rpartition('.')[2]
    if key == 'init_cfg':
        check_setting_names(
            cfg, where, part, require_class(WEIGHT_INITIALIZERS, scope, name, where)
        )
        return
    if key in LOSSES:
        require_class(MODELS, scope, name, where)
    lookup = key.endswith(PARTS)
    found = require_class(MODELS, scope, name, where) if lookup else find_class(MODELS, scope, name)
    if lookup:
        check_setting_names(cfg, where, part, found)
        lacking = [name for name in required(found) if name not in part]
        if lacking and where.count('.') == 1:
            raise UserError(f'{where} ({found.__name__}) needs {" and ".join(lacking)}')
    check_settings = getattr(found, 'check_settings', None)
    if check_settings is None:
        return
    try:
        check_settings(**{key: part[key] for key in part if key not in ('type', '_scope_')})
    except (ValueError, TypeError) as error:
        raise UserError(f'{where} ({found.__name__}): {error}') from error


def _check_pretrained(cfg: Config) -> None:
    """Refuse mmseg's ``pretrained`` where the backbone, which it is handed to, has no such setting.

    Base configs have it for the backbone of their own.
    """
    model, scope = cfg.model, cfg.get('default_scope') or 'mmengine'
    found, backbone = find_class(MODELS, scope, model.get('type')), model.get('backbone')
    if not model.get('pretrained') or not getattr(found, '__module__', '').startswith('mmseg.'):
        return
    taker = find_class(MODELS, scope, backbone['type']) if isinstance(backbone, dict) else None
    if taker is not None and not takes(taker, 'pretrained'):
        raise UserError(
            f'model.pretrained is {model.pretrained!r}, which {found.__name__} hands to the '
            f'backbone, and {taker.__name__} has no such setting: set model.pretrained=None; the '
            "backbone's own weights are named by "
            "model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
        )


def _parts(node: Any, where: str, scope: str) -> Iterator[tuple[str, dict, str]]:
    """Every dict with a ``type`` in a config, where it stands, and the scope it is built in."""
    if isinstance(node, dict):
        scope = node.get('_scope_', scope)
        if 'type' in node:
            yield where, node, scope
        for key in node:
            yield from _parts(node[key], f'{where}.{key}', scope)
    elif isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            yield from _parts(item, f'{where}[{i}]', scope)
