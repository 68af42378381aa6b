"""Weights trained with the authors' released code, in mmv2m's names.

The released code is https://github.com/wangck20/V2M. Its model is ``V2M`` with
``geometry='released'`` and ``class_token='mean'``.
"""

from collections.abc import Mapping

from torch import Tensor

from .weight_conversion import as_map, convert_weights, count_blocks, keep_all, strip_wrappers

__all__ = ['convert_released_weights']

STAGES = 4
OUTSIDE_BLOCKS = {
    'patch_embed.proj.weight': 'backbone.patch_embed.projection.weight',
    'patch_embed.proj.bias': 'backbone.patch_embed.projection.bias',
    'pos_embed': 'backbone.pos_embed.weight',
    'norm_f.weight': f'backbone.norm{STAGES - 1}.weight',
    'head.weight': 'head.fc.weight',
    'head.bias': 'head.fc.bias',
}
IN_SCAN = {
    'A_log': 'A_log',
    'D': 'D',
    'conv1d.weight': 'conv.weight',
    'conv1d.bias': 'conv.bias',
    'x_proj.weight': 'x_proj.weight',
    'dt_proj.weight': 'dt_proj.weight',
    'dt_proj.bias': 'dt_proj.bias',
}
"""Parameters of one scan. Names of the second scan have ``_2`` behind the first word."""


def convert_released_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the weights of a released model for mmpretrain's ImageClassifier.

    Args:
        state_dict: The weights that the released code saves under ``'model'``.

    Returns:
        The state dict of an ImageClassifier with a plain V2M and a linear head.

    Raises:
        ValueError: If a key is unknown or missing, the blocks do not divide into four stages, or
            the position embedding is not square.
    """
    state_dict = strip_wrappers(state_dict)
    (depth,) = count_blocks(state_dict, r'layers\.(\d+)\.')
    if not depth or depth % STAGES:
        raise ValueError(
            f'a released V2M has a number of blocks (layers.<i>) that {STAGES} divides, but this '
            f'checkpoint has {depth}'
        )
    plan = keep_all(_released_names(depth))
    plan['pos_embed'] = {OUTSIDE_BLOCKS['pos_embed']: as_map}
    return convert_weights(state_dict, plan, 'released V2M')


def _released_names(depth: int) -> dict[str, str]:
    """The names of mmv2m by the names of the released code."""
    names = dict(OUTSIDE_BLOCKS)
    per_stage = depth // STAGES
    for i in range(depth):
        old, new = f'layers.{i}', f'backbone.stages.{i // per_stage}.{i % per_stage}'
        names[f'{old}.norm.weight'] = f'{new}.norm.weight'
        for projection in ('in_proj.weight', 'out_proj.weight'):
            names[f'{old}.mixer.{projection}'] = f'{new}.mixer.{projection}'
        for key, value in IN_SCAN.items():
            names[f'{old}.mixer.{key}'] = f'{new}.mixer.ssm.all.rows.{value}'
            names[f'{old}.mixer.{_second(key)}'] = f'{new}.mixer.ssm.all.columns.{value}'
    return names


def _second(key: str) -> str:
    if key == 'A_log':
        return 'A_2_log'
    first, dot, rest = key.partition('.')
    return f'{first}_2{dot}{rest}'
