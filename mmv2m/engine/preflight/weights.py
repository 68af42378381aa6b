"""Checks of checkpoints before anything is built: are these the weights of this model?"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import PretrainedInit

from mmv2m.utils.checkpoints import read_checkpoint
from mmv2m.utils.meta_model import build_on_meta

from ..errors import UserError
from .files import check_checkpoint, is_remote
from .model import model_parts
from .trained_as import check_trained_as

__all__ = ['check_incoming', 'check_weights']

MISFIT = 'Error(s) in loading state_dict'
"""What PyTorch says of weights of another shape."""


def check_weights(cfg: Config, checkpoint: str) -> None:
    """Check that a checkpoint holds every parameter of a config's model.

    mmengine only warns of missing ones and of those of another shape, and the test of a model that
    is part random looks like any other. A model that cannot be made of shapes alone is left to the
    runner.

    Args:
        cfg: The config, its model checked already.
        checkpoint: A local file.

    Raises:
        UserError: If it is a URL, does not exist, is no checkpoint, lacks parameters or has some of
            another shape.
    """
    if is_remote(checkpoint):
        raise UserError(f'{checkpoint} must be a local file: its digest is part of the record')
    content = _read(checkpoint, 'checkpoint')
    check_trained_as(cfg, checkpoint, content, tests=True)
    config = Path(cfg.filename).name
    try:
        model = build_on_meta(cfg)
        model = getattr(model, 'module', model)  # what test-time augmentation wraps
        missing = model.load_state_dict(_weights(content), strict=False, assign=True).missing_keys
    except Exception as error:
        heading, *problems = str(error).splitlines() or ['']
        if heading.startswith(MISFIT):
            raise UserError(f'{checkpoint} does not fit {config}: {problems[0].strip()}') from error
        return
    wanted = dict(model.named_parameters())
    lacking = [name for name in missing if name in wanted]
    reason = _misfit(getattr(model, 'backbone', None), _weights(content), 'backbone.')
    if lacking:
        raise UserError(
            f'{checkpoint} lacks {len(lacking)} of the {len(wanted)} parameters of {config}, such '
            f'as {lacking[0]}' + (f'; {reason}' if reason else '')
        )
    if reason:
        raise UserError(f'{checkpoint} does not fit {config}: {reason}')


def check_incoming(cfg: Config) -> None:
    """Check the checkpoints that a training begins with: can they be read, do they fit?

    Those are ``load_from``, what ``--resume`` goes on from, and what an ``init_cfg`` names. That
    they fill nearly all of the backbone is asked where the backbone is one of mmv2m's. Remote ones
    are left to the runner.

    Args:
        cfg: The config, its model checked already.

    Raises:
        UserError: If a file is no checkpoint, would run code, is one that nothing can be resumed
            from, or fits another backbone.
    """
    for where, part, _ in model_parts(cfg):
        path = part.get('checkpoint')
        if part['type'] in ('Pretrained', PretrainedInit) and isinstance(path, str):
            _check_pretrained(cfg, where, path, part.get('prefix'))
    path = cfg.get('load_from')
    if not path or is_remote(path):
        return
    content = _read(path, 'checkpoint')
    check_trained_as(cfg, path, content)
    if cfg.get('resume') and not {'epoch', 'iter'} <= set(content.get('meta') or ()):
        raise UserError(f'{path} holds no training to resume: --cfg-options load_from={path}')
    _require_fit(cfg, path, _weights(content), 'backbone.')


def _check_pretrained(cfg: Config, where: str, path: str, prefix: str | None) -> None:
    if is_remote(path):
        return
    content = _read(path, f'{where}.checkpoint')
    check_trained_as(cfg, f'{where}: {path}', content)
    weights = _weights(content)
    if prefix:
        start = prefix if prefix.endswith('.') else f'{prefix}.'
        part = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
        if not part:
            raise UserError(
                f'{where}: no name in {path} begins with prefix={prefix!r}; the first one is '
                f'{next(iter(weights), None)!r}'
            )
        weights = part
    if re.fullmatch(r'model\.backbone\.init_cfg(\[\d+\])?', where):
        _require_fit(cfg, f'{where}: {path}', weights, '')


def _require_fit(cfg: Config, what: str, weights: dict[str, Any], prefix: str) -> None:
    try:
        backbone = getattr(build_on_meta(cfg), 'backbone', None)
    except Exception:
        return  # a model that cannot be made of shapes alone
    if reason := _misfit(backbone, weights, prefix):
        raise UserError(f'{what}: {reason}')


def _misfit(backbone: Any, weights: dict[str, Any], prefix: str) -> str | None:
    """Why weights do not fit a backbone of mmv2m, or None."""
    if not hasattr(backbone, 'adapt_weights'):
        return None
    try:
        backbone.adapt_weights(weights, prefix, logger='silent')
    except (RuntimeError, ValueError) as error:
        return str(error)
    return None


def _read(path: str, what: str) -> dict[str, Any]:
    check_checkpoint(path, what)
    try:
        return read_checkpoint(path, logger='silent')
    except (OSError, ValueError) as error:
        raise UserError(f'{what} {error}') from error


def _weights(content: Mapping[str, Any]) -> dict[str, Any]:
    """The weights themselves, which most checkpoints hold beside other things."""
    inner = content.get('state_dict', content)
    held = inner if isinstance(inner, Mapping) else {}
    return {name.removeprefix('module.'): value for name, value in held.items()}
