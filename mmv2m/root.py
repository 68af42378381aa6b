"""The folders of configs, tools and records, in the clone or in an installation."""

from pathlib import Path

__all__ = ['RECORDS', 'ROOT']

PACKAGE = Path(__file__).resolve().parent
INSTALLED = PACKAGE / '.mim'

ROOT = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent
"""The folder of ``configs`` and ``tools``: the clone, or what setup.py puts into a wheel."""

RECORDS = Path('records') if INSTALLED.is_dir() else ROOT / 'records'
"""The folder of the result records: the clone's, or one in the working directory."""
