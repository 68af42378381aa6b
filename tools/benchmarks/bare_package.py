"""Packages without what their ``__init__`` imports.

``import mamba_ssm`` wants transformers and more, which its scan does not need.
"""

import importlib.util
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path

__all__ = ['make_package', 'provide_package']


def provide_package(name: str) -> bool:
    """Have an installed package's modules import without its ``__init__``.

    Args:
        name: Of the package; one that has been imported already stays as it is.

    Returns:
        Whether it is installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        return False
    if name not in sys.modules:
        make_package(name, spec.submodule_search_locations)
    return True


def make_package(name: str, folders: Iterable[str | Path]) -> None:
    """Make folders an importable package, whose ``__init__`` is not run."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder) for folder in folders]
    sys.modules[name] = importlib.util.module_from_spec(spec)
