"""Weights of LocalVim's official code, https://github.com/hunto/LocalMamba, in mmv2m's names."""

from collections.abc import Mapping

from torch import Tensor

from .mamba_weights import OUTSIDE_BLOCKS, as_grid, block_names, scan_plan
from .weight_conversion import Plan, convert_weights, keep_all, strip_wrappers

__all__ = ['convert_local_vim_weights']

SCANS = {f'A_log_{k}': f'_{k}' for k in range(4)}
IN_ATTENTION = {
    f'{old}.{kind}': f'{new}.{kind}'
    for old, new in {'norm': 'norm', 'global_reduce': 'reduce', 'channel_select': 'expand'}.items()
    for kind in ('weight', 'bias')
}


def convert_local_vim_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the weights of an official LocalVim for mmpretrain's ImageClassifier.

    Args:
        state_dict: The weights that the official code saves under ``'model'`` or ``'state_dict'``,
            of a model with rotary positions and without class token.

    Returns:
        The state dict of an ImageClassifier with a LocalVim and a linear head. For a segmentor's
        backbone, which has a LayerNorm behind each output (``outnorm_<i>``), there is no head.

    Raises:
        ValueError: If a key is unknown or missing, the blocks do not divide into four stages, or
            the patches form no square.
    """
    state_dict = strip_wrappers(state_dict)
    plan: Plan = keep_all(OUTSIDE_BLOCKS)
    plan['pos_embed'] = {'backbone.pos_embed.weight': as_grid}
    for name in ('cos', 'sin'):
        plan[f'rope.freqs_{name}'] = {f'backbone.rotary.{name}': _one_of_pair}
    outputs = [key for key in state_dict if key.startswith('outnorm_')]
    if outputs:
        del plan['norm_f.weight']
        plan |= keep_all({key: f'backbone.norm{key.removeprefix("outnorm_")}' for key in outputs})
    for old, new in block_names(state_dict).items():
        plan |= scan_plan(old, new, SCANS, f'{old}norm.bias' in state_dict)
        plan |= keep_all(IN_ATTENTION, f'{old}mixer.attn.', f'{new}mixer.attention.')
    return convert_weights(state_dict, plan, 'LocalVim')


def _one_of_pair(table: Tensor) -> Tensor:
    """Select one of two equal tables of cosines or sines, one for each channel of a pair."""
    return as_grid(table)[..., ::2]
