"""Finding the class that a config's ``type`` names."""

from importlib import import_module
from typing import Any

from mmengine.registry import Registry

from ..errors import UserError, did_you_mean

__all__ = ['find_class', 'require_class']

OWN_MODULES = ('mmv2m.models', 'mmv2m.datasets', 'mmv2m.engine')


def find_class(registry: Registry, scope: str, name: Any) -> Any:
    """Look a ``type`` up as the runner will.

    Args:
        registry: A root registry.
        scope: Scope to look from.
        name: The ``type``: a name, or the class itself.

    Returns:
        The class or function, or None if it is not registered.

    Raises:
        UserError: If the modules that the registry has to import cannot be imported.
    """
    if not isinstance(name, str):
        return name
    try:
        with registry.switch_scope_and_registry(scope) as scoped:
            return scoped.get(name)
    except ImportError as error:
        raise UserError(f'the {registry.name}s of {scope} cannot be imported: {error}') from error


def require_class(registry: Registry, scope: str, name: Any, where: str) -> Any:
    """Look a ``type`` up, or say why it cannot be found.

    Args:
        registry: A root registry.
        scope: Scope to look from.
        name: The ``type``: a name, or the class itself.
        where: Where the config names it.

    Raises:
        UserError: If it is not registered, with the import that is missing or the nearest name.
    """
    found = find_class(registry, scope, name)
    if found is not None:
        return found
    for module in OWN_MODULES:
        if name in _names_defined_by(module):
            raise UserError(
                f'{where}: {name} is not registered; add to the config: '
                f"custom_imports = dict(imports=['{module}'], allow_failed_imports=False)"
            )
    raise UserError(
        f'{where}: {name!r} is not in the {registry.name} registry of {scope}'
        + (
            did_you_mean(name, _names_in(registry, scope))
            or '; does custom_imports lack its module?'
        )
    )


def _names_defined_by(module: str) -> list[str]:
    try:
        return import_module(module).__all__
    except ImportError:
        return []


def _names_in(registry: Registry, scope: str) -> list[str]:
    """Names as a config of this scope has to write them."""
    names = list(registry.module_dict)
    for child_scope, child in registry.children.items():
        prefix = '' if child_scope == scope else f'{child_scope}.'
        names += [prefix + name for name in child.module_dict]
    return names
