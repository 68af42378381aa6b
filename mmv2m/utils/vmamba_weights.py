"""Weights of VMamba's official code, https://github.com/MzeroMiko/VMamba, in mmv2m's names."""

import re
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from .weight_conversion import Plan, convert_weights, count_blocks, keep_all, strip_wrappers

__all__ = ['convert_vmamba_weights']

OUTSIDE_BLOCKS = {
    f'{old}.{kind}': f'{new}.{kind}'
    for old, new in {
        'patch_embed.0': 'backbone.patch_embed.first.conv',
        'patch_embed.2': 'backbone.patch_embed.first.norm',
        'patch_embed.5': 'backbone.patch_embed.second.conv',
        'patch_embed.7': 'backbone.patch_embed.second.norm',
    }.items()
    for kind in ('weight', 'bias')
}
CLASSIFIER = {
    f'{old}.{kind}': f'{new}.{kind}'
    for old, new in {'classifier.norm': 'backbone.norm3', 'classifier.head': 'head.fc'}.items()
    for kind in ('weight', 'bias')
}
DOWNSAMPLE = {
    f'{old}.{kind}': f'{new}.{kind}'
    for old, new in {'1': 'conv', '3': 'norm'}.items()
    for kind in ('weight', 'bias')
}
IN_BLOCK = {
    f'{old}.{kind}': f'{new}.{kind}'
    for old, new in {
        'norm': 'norm',
        'norm2': 'ffn_norm',
        'mlp.fc1': 'ffn.layers.0.0',
        'mlp.fc2': 'ffn.layers.1',
        'op.out_norm': 'mixer.norm',
    }.items()
    for kind in ('weight', 'bias')
} | {
    f'op.{old}.weight': f'mixer.{new}.weight'
    for old, new in {'in_proj': 'in_proj', 'conv2d': 'conv', 'out_proj': 'out_proj'}.items()
}
LINEAR = ('mlp.fc1.weight', 'mlp.fc2.weight', 'op.in_proj.weight', 'op.out_proj.weight')
IN_SCAN = {
    'x_proj_weight': 'x_proj',
    'dt_projs_weight': 'dt_proj',
    'dt_projs_bias': 'dt_bias',
    'A_logs': 'A_log',
    'Ds': 'D',
}
JOINED = ('A_logs', 'Ds')
SCANS = {'rows': (0, 2), 'columns': (1, 3)}
"""Indices of the forward and the backward scan among the official code's four stacked scans."""


def convert_vmamba_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reorder the weights of an official VMamba for mmpretrain's ImageClassifier.

    Args:
        state_dict: The weights that the official code saves under ``'model'`` or ``'model_ema'``,
            of a model without gate, with convolutional stem and downsampling, such as s1l8 or
            s2l15. The names of the newest code are known too: ``op.x_proj.weight``, (4 (R + 2 N),
            D), and ``op.dt_projs.weight``, (4 D, R).

    Returns:
        The state dict of an ImageClassifier with a VMamba and a linear head. For the backbone of a
        detector or segmentor, which has a norm behind each output (``outnorm<i>``), there is no
        head.

    Raises:
        ValueError: If a key is unknown or missing.
    """
    state_dict = _older_names(strip_wrappers(state_dict))
    outputs = {
        key: f'backbone.norm{key.removeprefix("outnorm")}'
        for key in state_dict
        if re.match(r'outnorm\d\.', key)
    }
    plan = keep_all(OUTSIDE_BLOCKS | (outputs or CLASSIFIER))
    depths = count_blocks(state_dict, r'layers\.(\d+)\.blocks\.(\d+)\.')
    for i, depth in enumerate(depths):
        if i:
            plan |= keep_all(DOWNSAMPLE, f'layers.{i - 1}.downsample.', f'backbone.stages.{i}.0.')
        for j in range(depth):
            plan |= _block_plan(f'layers.{i}.blocks.{j}.', f'backbone.stages.{i}.{j + (i > 0)}.')
    return convert_weights(state_dict, plan, 'VMamba')


def _older_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack the weights of the four scans, for which the newest code has one joined layer."""
    older = {}
    for key, value in state_dict.items():
        match = re.fullmatch(r'(layers\..*\.op\.)(x_proj|dt_projs)\.(weight|bias)', key)
        if match and value.shape[0] % 4 == 0:
            older[f'{match[1]}{match[2]}_{match[3]}'] = value.unflatten(0, (4, -1))
        else:
            older[key] = value
    return older


def _block_plan(old: str, new: str) -> Plan:
    plan = keep_all(IN_BLOCK, old, new)
    for key in LINEAR:
        plan[f'{old}{key}'] = {f'{new}{IN_BLOCK[key]}': _as_matrix}
    for key, name in IN_SCAN.items():
        plan[f'{old}op.{key}'] = {
            f'{new}mixer.{scans}.{name}': partial(_choose, order, key not in JOINED)
            for scans, order in SCANS.items()
        }
    return plan


def _as_matrix(weight: Tensor) -> Tensor:
    """Flatten the weight of a linear layer, a 1 x 1 convolution in some official versions."""
    return weight.flatten(1)


def _choose(order: tuple[int, ...], stacked: bool, scans: Tensor) -> Tensor:
    """Select and join some of the four scans' parameters, which official code stacks or joins."""
    joined = scans.flatten(0, 1) if stacked else scans
    return torch.cat([joined.chunk(4)[k] for k in order])
