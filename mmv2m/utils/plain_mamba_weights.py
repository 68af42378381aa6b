"""Weights of PlainMamba's official code in mmv2m's names.

The official code is https://github.com/ChenhongyiYang/PlainMamba.
"""

from collections.abc import Mapping

from torch import Tensor

from .adapter_weights import adapter_plan
from .weight_conversion import (
    AFFINE,
    BATCH_NORM,
    Plan,
    as_map,
    convert_weights,
    count_blocks,
    keep_all,
    strip_wrappers,
)

__all__ = ['convert_plain_mamba_weights']

STAGES = 4
OUTSIDE_BLOCKS = {
    f'{old}.{kind}': f'{new}.{kind}'
    for old, new in {
        'backbone.patch_embed.projection': 'backbone.patch_embed.projection',
        'backbone.ln1': f'backbone.norm{STAGES - 1}',
        'head.fc': 'head.fc',
    }.items()
    for kind in AFFINE
}
IN_BLOCK = {
    f'{old}.{kind}': f'{new}.{kind}'
    for old, new in {
        'norm': 'norm',
        'mamba.in_proj': 'mixer.in_proj',
        'mamba.conv2d': 'mixer.conv',
        'mamba.out_proj': 'mixer.out_proj',
    }.items()
    for kind in AFFINE
} | {
    f'mamba.{old}': f'mixer.ssm.{new}'
    for old, new in {
        'A_log': 'A_log',
        'D': 'D',
        'direction_Bs': 'direction_embed',
        'x_proj.weight': 'x_proj',
        'dt_proj.weight': 'dt_proj',
    }.items()
}


def convert_plain_mamba_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reshape the weights of an official PlainMamba for mmpretrain's ImageClassifier.

    Args:
        state_dict: The weights that the official code saves under ``'state_dict'``. Copies that its
            moving average keeps (``ema_*``) are left out, because the other entries hold the
            average. The weights of the backbone alone suffice, with or without ``backbone.``.

    Returns:
        The state dict of an ImageClassifier with a PlainMamba and a linear head. The backbone of a
        segmentor has further norms behind its first three stages (``norm_layer<i>``). The backbone
        of a detector is a PlainMambaAdapter.

    Raises:
        ValueError: If a key is unknown or missing, the blocks do not divide into four stages, or
            the position embedding is not square.
    """
    state_dict = strip_wrappers(state_dict)
    state_dict = {key: value for key, value in state_dict.items() if not key.startswith('ema_')}
    if not any(key.startswith('backbone.') for key in state_dict):
        state_dict = {f'backbone.{key}': value for key, value in state_dict.items()}
    depth = sum(count_blocks(state_dict, r'backbone\.layers\.(\d+)\.'))
    if depth % STAGES or not depth:
        raise ValueError(
            f'a PlainMamba has a number of blocks (backbone.layers.<i>) that {STAGES} divides, but '
            f'this checkpoint has {depth}'
        )
    plan = keep_all(OUTSIDE_BLOCKS) | _stem_plan(state_dict)
    if adapter := adapter_plan(state_dict, 'backbone.'):
        # The detectors' backbone ends in norms of the adapter.
        plan = {old: new for old, new in plan.items() if '.ln1.' not in old} | adapter
    plan['backbone.pos_embed'] = {'backbone.pos_embed.weight': as_map}
    for i in range(STAGES - 1):
        norm = f'backbone.norm_layer{(i + 1) * depth // STAGES - 1}.'
        if f'{norm}weight' in state_dict:
            plan |= keep_all({kind: kind for kind in AFFINE}, norm, f'backbone.norm{i}.')
    local = 'backbone.layers.0.dw.0.weight' in state_dict
    for i in range(depth):
        stage, block = divmod(i, depth // STAGES)
        if stage == 0 and block > 0 and local:
            block += 1
        old, new = f'backbone.layers.{i}.', f'backbone.stages.{stage}.{block}.'
        plan |= keep_all(IN_BLOCK, old, new)
        plan[f'{old}mamba.dt_proj.bias'] = {f'{new}mixer.ssm.dt_bias': _double}
    if local:
        plan |= _conv_plan('backbone.layers.0.dw', 0, 'backbone.stages.0.1.0')
    return convert_weights(state_dict, plan, 'PlainMamba')


def _stem_plan(state_dict: Mapping[str, Tensor]) -> Plan:
    plan = _conv_plan('backbone.patch_embed.stem', 0, 'backbone.stem_convs.0')
    # Convolution, norm and activation follow each other in one sequence.
    for i in range(max(count_blocks(state_dict, r'backbone\.patch_embed\.convs\.(\d+)\.')) // 2):
        plan |= _conv_plan('backbone.patch_embed.convs', 3 * i, f'backbone.stem_convs.{i + 1}')
    return plan


def _conv_plan(old: str, index: int, new: str) -> Plan:
    """Make the plan of a ConvModule from a convolution and the BatchNorm behind it."""
    return keep_all(
        {f'{old}.{index}.weight': f'{new}.conv.weight'}
        | {f'{old}.{index + 1}.{kind}': f'{new}.bn.{kind}' for kind in BATCH_NORM}
    )


def _double(bias: Tensor) -> Tensor:
    """Double the time step's bias, which the official code adds in the projection and the scan."""
    return 2 * bias
