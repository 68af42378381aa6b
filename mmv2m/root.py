"""Where configs, tools and records are: in the clone, or in what an installation brings along."""

from pathlib import Path

__all__ = ['RECORDS', 'ROOT']

PACKAGE = Path(__file__).resolve().parent
INSTALLED = PACKAGE / '.mim'

ROOT = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent
"""The folder of ``configs`` and ``tools``: the clone, or what setup.py puts into a wheel."""

RECORDS = Path('records') if INSTALLED.is_dir() else ROOT / 'records'
"""The folder of the result records: the clone's, or one where the command is started."""
