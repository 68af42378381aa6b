"""Check that the parts of a model take the settings that a config gives them."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmv2m.utils.arguments import arguments
from mmv2m.utils.suggestions import did_you_mean, unknown_setting

from ..errors import UserError

__all__ = ['ADDED', 'check_counts', 'check_setting_names', 'try_out', 'type_name']

ADDED = ('type', '_scope_', '_delete_')
"""What a config says to mmengine, not to the class."""


def type_name(part: dict) -> str:
    """The name of a part's class, without its scope."""
    kind = part.get('type')
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else getattr(kind, '__name__', '')


def check_counts(where: str, part: dict, **least: int) -> None:
    """Check settings that are whole numbers.

    Args:
        where: Where the part stands in the config.
        part: The part, which may lack any of them.
        **least: The least value of each.

    Raises:
        UserError: If one is less, or no whole number.
    """
    for name in least.keys() & part.keys():
        value = part[name]
        if not isinstance(value, (int, float)) or value != int(value) or value < least[name]:
            raise UserError(
                f'{where}.{name} must be a whole number of {least[name]} or more, but is {value!r}'
            )


def try_out(where: str, found: Any, settings: dict, **more: Any) -> Any:
    """Make an object as the run will, and return it.

    Args:
        where: Where the part stands in the config.
        found: Its class, which does nothing but keep its settings.
        settings: Its arguments.
        **more: Arguments that are not the config's.

    Raises:
        UserError: If the class refuses them, with its own words.
    """
    try:
        return found(**deepcopy(settings), **more)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        says = error.args[0] if error.args else f'it refuses the settings {settings}'
        raise UserError(f'{where} ({found.__name__}): {says}') from error


def check_setting_names(
    cfg: Config, where: str, part: dict, found: Any, read: tuple[str, ...] = ()
) -> None:
    """Check that a class has all the settings that a config gives it.

    Where a class takes any keyword, as those do that hand them on, only a name that is nearly one
    of the class or its bases is refused.

    Args:
        cfg: The whole config.
        where: Where the part stands in it, such as ``'model.backbone'``.
        part: The part.
        found: Its class.
        read: Further settings, which are not for the class.

    Raises:
        UserError: With a setting that there is not. If a base config gave it to another class, the
            message says which, and how to leave it out.
    """
    known, all_known = arguments(found)
    unknown = [
        key
        for key in part
        if key not in (*ADDED, *read, *known)
        and (all_known or did_you_mean(key, known, cutoff=0.85))
    ]
    if not unknown:
        return
    for source, before in _earlier(cfg, where) if all_known else ():
        old = type_name(before)
        inherited = [key for key in unknown if key in before]
        if inherited and old != found.__name__:
            raise UserError(
                f'{where} ({found.__name__}): no setting {inherited[0]!r}; '
                f'{", ".join(map(repr, inherited))} come from the {old} of {source}: write '
                f'{where.rsplit(".", 1)[-1]}=dict(_delete_=True, type={found.__name__!r}, ...)'
            )
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
