"""Importing packages without running their ``__init__``.

``import mamba_ssm`` needs transformers and other packages, which its scan does not need.
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
        name: Name of the package. A package that has been imported already stays as it is.

    Returns:
        Whether the package is installed.
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
