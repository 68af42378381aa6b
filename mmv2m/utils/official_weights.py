"""Checkpoints of official code, of V2M and of other models, in mmv2m's format."""

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
from .weight_conversion import find_weights, save_converted

__all__ = ['ALL_CONVERTERS', 'CONVERTERS', 'convert_official_checkpoint', 'recognise']

Converter = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

CONVERTERS: dict[str, Converter] = {
    'efficient-vmamba': convert_efficient_vmamba_weights,
    'local-vim': convert_local_vim_weights,
    'plain-mamba': convert_plain_mamba_weights,
    'vim': convert_vim_weights,
    'vmamba': convert_vmamba_weights,
}
"""For each family of other models the function that converts a state dict."""

ALL_CONVERTERS: dict[str, Converter] = CONVERTERS | {'v2m': convert_released_weights}
"""The same, and that of V2M's released code."""

SIGNS = {
    'efficient-vmamba': r'layers\.\d+\.blocks\.\d+\.conv_branch\.',
    'local-vim': r'layers\.\d+\.mixer\.A_log_\d',
    'plain-mamba': r'(backbone\.)?layers\.\d+\.mamba\.direction_Bs',
    'v2m': r'layers\.\d+\.mixer\.A_2_log',
    'vim': r'layers\.\d+\.mixer\.A_b_log',
    'vmamba': r'layers\.\d+\.blocks\.\d+\.op\.A_logs',
}
"""Names that only one family's official code gives, in the order in which they are looked for."""


def recognise(names: Iterable[str]) -> str | None:
    """Which family's official code names weights so; a key of :data:`ALL_CONVERTERS`, or None."""
    names = list(names)
    return next(
        (family for family, sign in SIGNS.items() if any(re.match(sign, name) for name in names)),
        None,
    )


def convert_official_checkpoint(
    family: str, src: str | Path, dst: str | Path, entry: str | None = None
) -> int:
    """Convert a file.

    Args:
        family: A key of :data:`ALL_CONVERTERS`.
        src: A checkpoint of the official code.
        dst: Where the checkpoint for mmpretrain's ImageClassifier goes.
        entry: Which of the checkpoint's entries to take, such as ``'model_ema'``; by default
            where :func:`.find_weights` finds some.

    Returns:
        How many tensors were written.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the file is no checkpoint, there is no such entry or it holds no weights, its
            keys are not the family's, or a tensor has an impossible shape.
    """
    weights = find_weights(load_tensors(str(src)), entry)
    state_dict = ALL_CONVERTERS[family](weights)
    save_converted(state_dict, family, src, dst)
    return len(state_dict)
