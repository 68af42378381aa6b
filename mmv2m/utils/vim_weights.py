"""Weights of Vim's official code, https://github.com/hustvl/Vim, in mmv2m's names."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .mamba_weights import OUTSIDE_BLOCKS, as_grid, block_names, scan_plan
from .weight_conversion import Plan, convert_weights, keep_all, strip_wrappers

__all__ = ['convert_vim_weights']

SCANS = {'A_log': '', 'A_b_log': '_b'}
PYRAMID = {'fpn1': 'neck.upsample_4x', 'fpn2': 'neck.upsample_2x'}
"""Layers of the official segmentor's backbone, which belong to mmseg's Feature2Pyramid here."""


def convert_vim_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the weights of an official Vim for mmpretrain's ImageClassifier.

    Args:
        state_dict: The weights that the official code saves under ``'model'`` or ``'model_ema'``,
            of a model with a class token in the middle (``..._with_midclstok_div2``).

    Returns:
        The state dict of an ImageClassifier with a Vim and a linear head. For a segmentor's
        backbone, which has no class token, it is the state dict of a Vim and of a Feature2Pyramid
        as its neck.

    Raises:
        ValueError: If a key is unknown or missing, the blocks do not divide into four stages, or
            the patches form no square.
    """
    state_dict = strip_wrappers(state_dict)
    plan: Plan = keep_all(OUTSIDE_BLOCKS)
    pyramid = {key: PYRAMID[key[: len('fpn1')]] for key in state_dict if key.startswith('fpn')}
    if pyramid:
        # The segmentor uses the mixers' outputs, so its last norm is not trained.
        plan['norm_f.weight'] = {}
        plan |= keep_all({key: f'{place}{key[len("fpn1") :]}' for key, place in pyramid.items()})
        plan['pos_embed'] = {'backbone.pos_embed.weight': as_grid}
    else:
        plan['cls_token'] = {'backbone.class_token.token': torch.flatten}
        plan['pos_embed'] = {
            'backbone.class_token.position': _token_position,
            'backbone.pos_embed.weight': _patch_positions,
        }
    for old, new in block_names(state_dict).items():
        plan |= scan_plan(old, new, SCANS)
    return convert_weights(state_dict, plan, 'Vim')


def _token_position(positions: Tensor) -> Tensor:
    """Select the class token's position from the positions, (1, L + 1, D)."""
    return positions[0, (positions.shape[1] - 1) // 2]


def _patch_positions(positions: Tensor) -> Tensor:
    middle = (positions.shape[1] - 1) // 2
    return as_grid(torch.cat((positions[:, :middle], positions[:, middle + 1 :]), 1))
