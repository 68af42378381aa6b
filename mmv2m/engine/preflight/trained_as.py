"""Checks that a backbone goes through images as it did when its weights were trained.

Corners, geometry and the place of class tokens change no name and no shape of a weight, so that
weights load into a model that computes something else. A checkpoint of mmengine holds the config of
its training as text, which tells them.
"""

import ast
import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmv2m.models import V2M
from mmv2m.models.backbones.arch import parse_arch

from ..errors import UserError
from .model import inner_model

__all__ = ['check_trained_as']

ALWAYS = ('geometry',)
"""Settings that a training has to share with the weights that it begins with, too."""

IN_TESTS = ('geometry', 'corners', 'class_token')
"""Settings that a test has to share with the training."""


def check_trained_as(
    cfg: Config, what: str, content: Mapping[str, Any], *, tests: bool = False
) -> None:
    """Refuse the weights of a V2M that was trained with other settings.

    Args:
        cfg: The config, its model checked already.
        what: The checkpoint, as a message calls it.
        content: What the checkpoint holds. One without the config of its training passes.
        tests: Whether the weights are tested as they are. A training may begin with weights of
            other corners or of another place of class tokens.

    Raises:
        UserError: If a setting differs.
    """
    trained = _trained_backbone(content.get('meta'))
    if trained is None:
        return
    backbone = inner_model(cfg).get('backbone') or {}
    for name in IN_TESTS if tests and _is_v2m(backbone.get('type')) else ALWAYS:
        now = _value(backbone, name)
        try:
            before = _value(trained, name)
        except (TypeError, ValueError):  # settings of another version
            return
        if before != now:
            raise UserError(
                f'{what} was trained with {name}={before!r}, and model.backbone has {now!r}: the '
                'weights fit both, but are right for the first one only'
            )


def _trained_backbone(meta: Any) -> dict[str, Any] | None:
    """The settings of the V2M in a training's config, or None if ``meta`` does not tell."""
    if not isinstance(meta, Mapping):
        return None
    if meta.get('family') == 'v2m':  # converted from the released code
        return dict(geometry='released', class_token='mean')
    text = meta.get('cfg')
    try:
        tree = ast.parse(text if isinstance(text, str) else '')  # a checkpoint's code must not run
    except (SyntaxError, ValueError):
        return None
    found = (_settings(node) for node in ast.walk(tree) if isinstance(node, ast.Call))
    return next((settings for settings in found if _is_v2m(settings.get('type'))), None)


def _settings(call: ast.Call) -> dict[str, Any]:
    """The keywords of a ``dict(...)``, without those that are no literals."""
    settings = {}
    for keyword in call.keywords:
        value = keyword.value
        try:
            settings[keyword.arg or ''] = (
                _settings(value) if isinstance(value, ast.Call) else ast.literal_eval(value)
            )
        except ValueError:
            continue
    return settings


def _is_v2m(cls: Any) -> bool:
    return cls is V2M or cls in ('V2M', 'mmv2m.V2M')


def _value(settings: Mapping[str, Any], name: str) -> Any:
    """A setting of a V2M, also where it is left at its default."""
    defaults = inspect.signature(V2M).parameters
    value, arch = (settings.get(key, defaults[key].default) for key in (name, 'arch'))
    if name == 'class_token' and value is None:
        return parse_arch(arch).class_token
    if name == 'corners':
        # Their order tells which parameters a corner has, if each has its own.
        return list(value) if parse_arch(arch).share == 'none' else sorted(value)
    return value
