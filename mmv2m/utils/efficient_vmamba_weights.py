"""Weights of EfficientVMamba's official code in mmv2m's names.

The official code is https://github.com/TerryPei/EfficientVMamba.
"""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from .weight_conversion import (
    AFFINE,
    BATCH_NORM,
    Plan,
    convert_weights,
    count_blocks,
    keep_all,
    strip_wrappers,
)

__all__ = ['convert_efficient_vmamba_weights']

OUTSIDE_BLOCKS = {
    f'{old}.{kind}': f'{new}.{kind}'
    for old, new in {
        'patch_embed.0': 'backbone.patch_embed.projection',
        'patch_embed.2': 'backbone.patch_embed.norm',
        'classifier.norm': 'backbone.norm3',
        'classifier.head': 'head.fc',
    }.items()
    for kind in AFFINE
}
IN_SCAN_BLOCK = (
    {
        f'{old}.{kind}': f'{new}.{kind}'
        for old, new in {
            'norm': 'norm',
            'op.out_norm': 'mixer.scan.norm',
            'op.conv2d': 'mixer.scan.conv',
            'conv_branch.0': 'mixer.conv.0',
            'conv_branch.3': 'mixer.conv.3',
            'se.norm': 'mixer.gate.norm',
            'se.global_reduce': 'mixer.gate.reduce',
            'se.channel_select': 'mixer.gate.expand',
        }.items()
        for kind in AFFINE
    }
    | {f'op.{name}.weight': f'mixer.scan.{name}.weight' for name in ('in_proj', 'out_proj')}
    | {f'conv_branch.1.{kind}': f'mixer.conv.1.{kind}' for kind in BATCH_NORM}
)
IN_SCAN = {
    'x_proj_weight': 'x_proj',
    'dt_projs_weight': 'dt_proj',
    'dt_projs_bias': 'dt_bias',
    'A_logs': 'A_log',
    'Ds': 'D',
}
GRIDS = (0, 2, 1, 3)
"""Places of mmv2m's grids in the official code, which stacks its four scans."""
IN_CONV_BLOCK = (
    {
        f'{old}.0.weight': f'convs.{i}.conv.weight'
        for i, old in {0: 'conv_pw', 1: 'conv_dw', 3: 'conv_pw2'}.items()
    }
    | {
        f'{old}.1.{kind}': f'convs.{i}.bn.{kind}'
        for i, old in {0: 'conv_pw', 1: 'conv_dw', 3: 'conv_pw2'}.items()
        for kind in BATCH_NORM
    }
    | {
        f'se.conv_{name}.{kind}': f'convs.2.{name}.conv.{kind}'
        for name in ('reduce', 'expand')
        for kind in AFFINE
    }
)


def convert_efficient_vmamba_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reorder the weights of an official EfficientVMamba for an ImageClassifier.

    Args:
        state_dict: The weights that the official code saves under ``'state_dict'`` or ``'model'``.

    Returns:
        The state dict of mmpretrain's ImageClassifier with an EfficientVMamba and a linear head.

    Raises:
        ValueError: If a key is unknown or missing.
    """
    state_dict = strip_wrappers(state_dict)
    plan = keep_all(OUTSIDE_BLOCKS)
    scanned = count_blocks(state_dict, r'layers\.(\d+)\.blocks\.(\d+)\.op\.')
    for i, depth in enumerate(scanned):
        for j in range(depth):
            new = f'backbone.stages.{i}.{j + (i > 0)}.'
            plan |= _scan_block_plan(f'layers.{i}.blocks.{j}.', new)
        plan |= _merging_plan(f'layers.{i}.downsample.', f'backbone.stages.{i + 1}.0.')
    # These stages are sequences of a permutation, the blocks, a permutation and the downsampling.
    depths = count_blocks(state_dict, r'layers\.(\d+)\.(\d+)\.conv_pw\.')
    for i, depth in list(enumerate(depths))[len(scanned) :]:
        for j in range(1, depth + 1):
            plan |= keep_all(IN_CONV_BLOCK, f'layers.{i}.{j}.', f'backbone.stages.{i}.{j}.')
        if i + 1 < len(depths):
            plan |= _merging_plan(f'layers.{i}.{depth + 2}.', f'backbone.stages.{i + 1}.0.')
    return convert_weights(state_dict, plan, 'EfficientVMamba')


def _scan_block_plan(old: str, new: str) -> Plan:
    plan = keep_all(IN_SCAN_BLOCK, old, new)
    for key, name in IN_SCAN.items():
        plan[f'{old}op.{key}'] = {
            f'{new}mixer.scan.grids.{grid}.{name}': partial(_choose, k)
            for grid, k in enumerate(GRIDS)
        }
    return plan


def _choose(k: int, scans: Tensor) -> Tensor:
    """Select one of the four scans' parameters, which are joined on the first axis or stacked."""
    return scans.chunk(4)[k].squeeze(0)


def _merging_plan(old: str, new: str) -> Plan:
    names = [f'norm.{kind}' for kind in AFFINE] + ['reduction.weight']
    return {f'{old}{name}': {f'{new}{name}': _reorder_patch} for name in names}


def _reorder_patch(weight: Tensor) -> Tensor:
    """Reorder patches, which are sorted by pixel in the official code, and by channel in mmcv."""
    by_pixel = weight.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return by_pixel.transpose(-1, -2).flatten(-2)
