"""Checkpoints of other models' official code, in mmv2m's format."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from .efficient_vmamba_weights import convert_efficient_vmamba_weights
from .local_vim_weights import convert_local_vim_weights
from .plain_mamba_weights import convert_plain_mamba_weights
from .tensors_only import load_tensors
from .vim_weights import convert_vim_weights
from .vmamba_weights import convert_vmamba_weights
from .weight_conversion import save_converted

__all__ = ['CONVERTERS', 'convert_official_checkpoint']

CONVERTERS: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    'efficient-vmamba': convert_efficient_vmamba_weights,
    'local-vim': convert_local_vim_weights,
    'plain-mamba': convert_plain_mamba_weights,
    'vim': convert_vim_weights,
    'vmamba': convert_vmamba_weights,
}
"""For each family of models the function that converts a state dict."""

ENTRIES = ('model', 'state_dict')
"""Where official checkpoints keep their weights."""


def convert_official_checkpoint(
    family: str, src: str | Path, dst: str | Path, entry: str | None = None
) -> int:
    """Convert a file.

    Args:
        family: A key of :data:`CONVERTERS`.
        src: A checkpoint of the official code.
        dst: Where the checkpoint for mmpretrain's ImageClassifier goes.
        entry: Which of the checkpoint's entries to take, such as ``'model_ema'``; by default the
            first of :data:`ENTRIES` that is there, or the whole file.

    Returns:
        How many tensors were written.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the file is no checkpoint, there is no such entry, its keys are not the
            family's, or a tensor has an impossible shape.
    """
    checkpoint = load_tensors(str(src))
    if entry is not None and entry not in checkpoint:
        raise ValueError(
            f'there is no entry {entry!r}; there are {", ".join(map(str, checkpoint))}'
        )
    found = [entry] if entry is not None else [name for name in ENTRIES if name in checkpoint]
    state_dict = CONVERTERS[family](checkpoint[found[0]] if found else checkpoint)
    save_converted(state_dict, src, dst)
    return len(state_dict)
