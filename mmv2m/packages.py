"""The distributions of the OpenMMLab libraries, whose names differ by family."""

import importlib.util
import re
import sys
from importlib.metadata import PackageNotFoundError, version

__all__ = [
    'DISTRIBUTIONS',
    'exit_without_libraries',
    'how_to_install',
    'leave_out_multimodal',
    'missing_library',
]

DISTRIBUTIONS = dict(
    mmengine=('onedl-mmengine', 'mmengine'),
    mmcv=('onedl-mmcv', 'mmcv'),
    mmpretrain=('onedl-mmpretrain', 'mmpretrain'),
    mmdet=('onedl-mmdetection', 'mmdet'),
    mmseg=('onedl-mmsegmentation', 'mmsegmentation'),
)
"""Distributions of a library by its import name: the maintained and the original one."""

TASK_LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg')


def how_to_install(library: str) -> str:
    """The command that installs a library, for a task library in both families.

    Args:
        library: Import name of the library.
    """
    if library not in TASK_LIBRARIES:
        return f'pip install {library}'
    maintained, original = DISTRIBUTIONS[library]
    return (
        f'pip install {maintained} (or, if mmengine and mmcv are the original ones, '
        f'pip install {original})'
    )


def missing_library(message: str) -> str | None:
    """The import name of the missing task library that an import error names, or None.

    Args:
        message: Message of the error, with the name of the library or of the original package.
    """
    words = set(re.findall(r'\w+', message))
    named = (name for name in TASK_LIBRARIES if words & {name, DISTRIBUTIONS[name][1]})
    return next((name for name in named if importlib.util.find_spec(name) is None), None)


def leave_out_multimodal() -> None:
    """Make mmpretrain's import work beside transformers 5, without its multimodal models.

    If transformers and pycocotools are installed, mmpretrain 1.3 imports these models, which works
    only with transformers 4. mmpretrain has placeholders for them, which say what is missing when
    one is built. This has no effect if mmpretrain's models have been imported already.
    """
    try:
        major = int(version('transformers').split('.')[0])
    except (PackageNotFoundError, ValueError):
        return
    if major < 5 or importlib.util.find_spec('mmpretrain') is None:
        return
    import mmpretrain.utils.dependency

    mmpretrain.utils.dependency.WITH_MULTIMODAL = False


def exit_without_libraries() -> None:
    """End a tool in one line and with status 2 if mmengine or mmcv is missing.

    A tool calls this before its other imports, which would end in a traceback.
    """
    try:
        import mmv2m.registry  # noqa: F401
    except ImportError as error:
        print('error:', error, file=sys.stderr)
        sys.exit(2)
