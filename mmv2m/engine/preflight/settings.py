"""Check that the parts of a model take the settings that a config gives them."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmv2m.utils.suggestions import unknown_setting

from ..errors import UserError

__all__ = ['check_setting_names', 'takes']

ADDED = ('type', '_scope_', '_delete_')
"""What a config says to mmengine, not to the class."""


def takes(found: Any, name: str) -> bool:
    """Whether a class or function has an argument of this name, or takes any."""
    parameters = inspect.signature(found).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def check_setting_names(cfg: Config, where: str, part: dict, found: Any) -> None:
    """Check that a class has all the settings that a config gives it.

    Args:
        cfg: The whole config.
        where: Where the part stands in it, such as ``'model.backbone'``.
        part: The part.
        found: Its class.

    Raises:
        UserError: With a setting that there is not. If a base config gave it to another class, the
            message says which, and how to leave it out.
    """
    unknown = [key for key in part if key not in ADDED and not takes(found, key)]
    if not unknown:
        return
    for source, before in _earlier(cfg, where):
        old = _name(before['type'])
        inherited = [key for key in unknown if key in before]
        if inherited and old != found.__name__:
            raise UserError(
                f'{where} ({found.__name__}): no setting {inherited[0]!r}; '
                f'{", ".join(map(repr, inherited))} come from the {old} of {source}: write '
                f'{where.rsplit(".", 1)[-1]}=dict(_delete_=True, type={found.__name__!r}, ...)'
            )
    known = inspect.signature(found).parameters
    raise UserError(f'{where} ({found.__name__}): {unknown_setting(unknown[0], known)}')


def _earlier(cfg: Config, where: str) -> Iterator[tuple[str, dict]]:
    """The part as the config's file has it without options, and as its base configs have it."""
    if not cfg.filename:
        return
    bases = Config._get_base_files(cfg.filename)
    for base in [cfg.filename, *bases]:
        try:
            path = base if base == cfg.filename else Config._get_cfg_path(base, cfg.filename)[0]
            node: Any = Config.fromfile(path, import_custom_modules=False)
        except Exception:
            continue  # it is here to explain a mistake, not to find one
        for key in where.split('.'):
            node = node.get(key) if isinstance(node, (Config, ConfigDict)) else None
        if isinstance(node, dict) and 'type' in node:
            yield base if base in bases else Path(base).name, node


def _name(kind: Any) -> str:
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__
