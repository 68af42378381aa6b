"""Published weights of the configs that are a task library's own."""

import ast
import importlib.util
from pathlib import Path

import yaml

__all__ = ['find_stock_weights']


def find_stock_weights(path: Path) -> str | None:
    """The URL of the weights that a task library publishes for a config.

    A config counts as the library's if it inherits one of the library's and changes nothing.

    Args:
        path: The config.

    Returns:
        None if the config is not the library's, or it publishes none.
    """
    base = _only_base(path)
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
                return model['Weights']
    return None


def _only_base(path: Path) -> str | None:
    """``'library::path'`` if inheriting it is all that a config does."""
    body = ast.parse(path.read_text()).body
    if len(body) != 1 or not isinstance(body[0], ast.Assign):
        return None
    (target,), value = body[0].targets, body[0].value
    named = isinstance(target, ast.Name) and target.id == '_base_'
    if not named or not isinstance(value, ast.Constant) or '::' not in str(value.value):
        return None
    return str(value.value)
