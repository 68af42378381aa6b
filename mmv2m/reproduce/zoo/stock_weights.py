"""Published weights of configs that are equal to a task library's own."""

import ast
import importlib.util
from pathlib import Path

import yaml
from mmengine.config import Config

from mmv2m.engine.records import config_digest

__all__ = ['find_stock_weights']


def find_stock_weights(path: Path) -> str | None:
    """The URL of the weights that a task library publishes for a config.

    A config is equal to the library's if it inherits from one of them and changes nothing that
    makes a difference to the result.

    Args:
        path: The config.

    Returns:
        The URL, or None if the config is not the library's or the library publishes no weights.
    """
    base = _library_base(path)
    if base is None:
        return None
    library, _, config = base.partition('::')
    spec = importlib.util.find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0], '.mim', 'configs', config).parent
    for metafile in sorted(folder.glob('metafile.y*ml')):
        for model in yaml.safe_load(metafile.read_text())['Models']:
            if model.get('Config') == f'configs/{config}' and model.get('Weights'):
                return model['Weights'] if _trains_as(path, base) else None
    return None


def _library_base(path: Path) -> str | None:
    """``'library::path'`` if a config begins with it as its base, or None."""
    first = ast.parse(path.read_text()).body[0]
    if not isinstance(first, ast.Assign) or not isinstance(first.value, ast.Constant):
        return None
    (target,), base = first.targets, str(first.value.value)
    named = isinstance(target, ast.Name) and target.id == '_base_'
    return base if named and '::' in base else None


def _trains_as(path: Path, base: str) -> bool:
    """Whether a config trains and tests as its base does."""
    stock = Config.fromstring(f'_base_ = {base!r}', '.py')
    return _without_groups(Config.fromfile(path)) == _without_groups(stock)


def _without_groups(cfg: Config) -> str:
    """A digest of a config without its settings of parameter groups.

    Two constructors write the same layer-wise decay in different ways. Tests compare the settings
    of each parameter with the library's instead.
    """
    if 'optim_wrapper' in cfg:
        for key in ('constructor', 'paramwise_cfg'):
            cfg.optim_wrapper.pop(key, None)
    return config_digest(cfg)
