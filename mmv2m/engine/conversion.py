"""Conversion of checkpoint files of official code, for the tools that do it."""

import os.path as osp
from pathlib import Path

from mmv2m.utils import convert_official_checkpoint
from mmv2m.utils.tensors_only import load_tensors
from mmv2m.utils.weight_conversion import find_weights

from .errors import UserError

__all__ = ['convert_file']


def convert_file(family: str, src: str, dst: str, entry: str | None = None) -> int:
    """Convert a file, after a check that the result can be written.

    Args:
        family: See :func:`mmv2m.utils.convert_official_checkpoint`.
        src: A checkpoint of the official code.
        dst: The file to write.
        entry: The entry of the checkpoint that has the weights.

    Returns:
        The number of tensors that were written.

    Raises:
        UserError: If ``src`` cannot be read or converted or has been converted already, ``dst`` is
            the same file or a folder, or its folder does not exist.
    """
    target = Path(dst)
    if osp.exists(src) and target.exists() and osp.samefile(src, dst):
        raise UserError(f'SRC and DST are both {dst}: give the converted file another name')
    if target.is_dir():
        raise UserError(f'DST {dst} is a folder, not a file')
    if not target.parent.is_dir():
        raise UserError(f'DST {dst} cannot be written: No such file or directory: {target.parent}')
    try:
        return convert_official_checkpoint(family, src, dst, entry)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and _is_converted(src):
            raise UserError(
                f'{src} has the names of mmv2m already, perhaps because it was converted before: '
                'use it as it is'
            ) from error
        raise UserError(f'{src}: {error}') from error


def _is_converted(src: str) -> bool:
    try:
        names = find_weights(load_tensors(src))
    except (OSError, ValueError):
        return False
    return any(name.startswith('backbone.stages.') for name in names)
