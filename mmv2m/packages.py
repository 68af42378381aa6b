"""The packages that hold the OpenMMLab libraries; their names differ by family."""

import importlib.util
import re
import sys

__all__ = ['exit_without_libraries', 'how_to_install', 'missing_library']

MAINTAINED = dict(
    mmpretrain='onedl-mmpretrain', mmdet='onedl-mmdetection', mmseg='onedl-mmsegmentation'
)
ORIGINAL = dict(mmpretrain='mmpretrain', mmdet='mmdet', mmseg='mmsegmentation')


def how_to_install(library: str) -> str:
    """The command that installs a library, for a task library in both families.

    Args:
        library: Its import name.
    """
    if library not in MAINTAINED:
        return f'pip install {library}'
    return (
        f'pip install {MAINTAINED[library]} (or, if mmengine and mmcv are the original ones, '
        f'pip install {ORIGINAL[library]})'
    )


def missing_library(message: str) -> str | None:
    """The task library that an import error is about, by its import name, if it is missing.

    Args:
        message: Of the error, with the library's or the original package's name.
    """
    words = set(re.findall(r'\w+', message))
    named = (name for name in MAINTAINED if words & {name, ORIGINAL[name]})
    return next((name for name in named if importlib.util.find_spec(name) is None), None)


def exit_without_libraries() -> None:
    """End a tool in one line and with status 2 if mmengine or mmcv is missing.

    For what precedes a tool's imports, which would end in a traceback.
    """
    try:
        import mmv2m.registry  # noqa: F401
    except ImportError as error:
        print('error:', error, file=sys.stderr)
        sys.exit(2)
