"""Conversion of checkpoints of official code, of V2M and of other models, to mmv2m's format."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from torch import Tensor

from .efficient_vmamba_weights import convert_efficient_vmamba_weights
from .local_vim_weights import convert_local_vim_weights
from .plain_mamba_weights import convert_plain_mamba_weights
from .released_weights import convert_released_weights
from .tensors_only import load_tensors
from .vim_weights import convert_vim_weights
from .vmamba_weights import convert_vmamba_weights
from .weight_conversion import find_weights, save_converted, strip_wrappers

__all__ = [
    'ALL_CONVERTERS',
    'CONVERTERS',
    'convert_official_checkpoint',
    'convert_official_weights',
    'recognise',
]

Converter = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

CONVERTERS: dict[str, Converter] = {
    'efficient-vmamba': convert_efficient_vmamba_weights,
    'local-vim': convert_local_vim_weights,
    'plain-mamba': convert_plain_mamba_weights,
    'vim': convert_vim_weights,
    'vmamba': convert_vmamba_weights,
}
"""The function that converts a state dict, for each family of other models."""

ALL_CONVERTERS: dict[str, Converter] = CONVERTERS | {'v2m': convert_released_weights}
"""All converters, including the one for V2M's released code."""

SIGNS = {
    'efficient-vmamba': r'layers\.\d+\.blocks\.\d+\.conv_branch\.',
    'local-vim': r'layers\.\d+\.mixer\.A_log_\d',
    'plain-mamba': r'layers\.\d+\.mamba\.direction_Bs',
    'v2m': r'layers\.\d+\.mixer\.A_2_log',
    'vim': r'layers\.\d+\.mixer\.A_b_log',
    'vmamba': r'layers\.\d+\.blocks\.\d+\.op\.A_logs',
}
"""Patterns of names by which official code is recognised; the first that matches counts.

In a detector or segmentor, ``backbone.`` precedes the names.
"""

BACKBONE = 'backbone.'


def recognise(names: Iterable[str]) -> str | None:
    """Find the family whose official code has such names: a key of :data:`ALL_CONVERTERS` or None.

    Args:
        names: Names of all weights.
    """
    names = [name.removeprefix(BACKBONE) for name in names]
    return next(
        (family for family, sign in SIGNS.items() if any(re.match(sign, name) for name in names)),
        None,
    )


def convert_official_weights(family: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the weights of a classifier, a detector, a segmentor or a backbone.

    Args:
        family: A key of :data:`ALL_CONVERTERS`.
        state_dict: Weights with the official code's names. If some names begin with ``backbone.``,
            only those are converted, since necks and heads of mmdet and mmseg keep their names.

    Returns:
        The state dict of mmpretrain's ImageClassifier, of mmdet's detector or of mmseg's segmentor.

    Raises:
        ValueError: If a key is unknown or missing, or a tensor has an impossible shape.
    """
    convert = ALL_CONVERTERS[family]
    state_dict = strip_wrappers(state_dict)
    inner = {
        key.removeprefix(BACKBONE): value
        for key, value in state_dict.items()
        if key.startswith(BACKBONE)
    }
    if not inner:
        return convert(state_dict)
    # mmcv's hook keeps copies of all parameters beside the moving average that it saves.
    others = {k: v for k, v in state_dict.items() if not k.startswith((BACKBONE, 'ema_'))}
    return convert(inner) | others


def convert_official_checkpoint(
    family: str, src: str | Path, dst: str | Path, entry: str | None = None
) -> int:
    """Convert a checkpoint file.

    Args:
        family: A key of :data:`ALL_CONVERTERS`.
        src: A checkpoint of the official code.
        dst: The file to write. It is for mmpretrain's ImageClassifier, or for a model of mmdet or
            mmseg if ``src`` is a detector's or a segmentor's.
        entry: The checkpoint's entry with the weights, such as ``'model_ema'``. By default,
            :func:`.find_weights` chooses it.

    Returns:
        The number of tensors that were written.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the file is no checkpoint, there is no such entry or it holds no weights, a
            key is unknown or missing, or a tensor has an impossible shape.
    """
    weights = find_weights(load_tensors(str(src)), entry)
    state_dict = convert_official_weights(family, weights)
    save_converted(state_dict, family, src, dst)
    return len(state_dict)
