"""Shared parts of the converters for models of Mamba's mixers."""

from collections.abc import Mapping

from torch import Tensor

from .weight_conversion import Plan, count_blocks, keep_all

__all__ = ['OUTSIDE_BLOCKS', 'STAGES', 'as_grid', 'block_names', 'scan_plan']

STAGES = 4
OUTSIDE_BLOCKS = {
    'patch_embed.proj.weight': 'backbone.patch_embed.projection.weight',
    'patch_embed.proj.bias': 'backbone.patch_embed.projection.bias',
    'norm_f.weight': f'backbone.norm{STAGES - 1}.weight',
    'head.weight': 'head.fc.weight',
    'head.bias': 'head.fc.bias',
}
IN_BLOCK = {
    'norm.weight': 'norm.weight',
    'mixer.in_proj.weight': 'mixer.in_proj.weight',
    'mixer.out_proj.weight': 'mixer.out_proj.weight',
}
IN_SCAN = {
    'conv1d{}.weight': 'conv.weight',
    'conv1d{}.bias': 'conv.bias',
    'x_proj{}.weight': 'x_proj.weight',
    'dt_proj{}.weight': 'dt_proj.weight',
    'dt_proj{}.bias': 'dt_proj.bias',
    'D{}': 'D',
}


def block_names(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Map the blocks' names, ``layers.<i>.``, to the names in four equal stages of a backbone.

    Raises:
        ValueError: If there are no blocks, or they do not divide into four stages.
    """
    (blocks,) = count_blocks(state_dict, r'layers\.(\d+)\.')
    if not blocks or blocks % STAGES:
        raise ValueError(
            f'the blocks, layers.<i>, must divide into {STAGES} stages, but there are {blocks}'
        )
    per_stage = blocks // STAGES
    return {
        f'layers.{i}.': f'backbone.stages.{i // per_stage}.{i % per_stage}.' for i in range(blocks)
    }


def scan_plan(old: str, new: str, scans: Mapping[str, str], biased: bool = False) -> Plan:
    """Make the plan of a block's norm, projections and scans.

    Args:
        old: Prefix of the block's names in the official code.
        new: Prefix of its names here.
        scans: For each scan, the name of its ``A_log`` in the official code, and the suffix of the
            names of its other parameters.
        biased: Whether the norm has a bias, as LayerNorm does.
    """
    plan = keep_all(IN_BLOCK, old, new)
    if biased:
        plan |= keep_all({'norm.bias': 'norm.bias'}, old, new)
    for k, (A_log, suffix) in enumerate(scans.items()):
        names = {name.format(suffix): value for name, value in IN_SCAN.items()}
        plan |= keep_all(names | {A_log: 'A_log'}, f'{old}mixer.', f'{new}mixer.scans.{k}.')
    return plan


def as_grid(positions: Tensor) -> Tensor:
    """Reshape positions of a square map, (..., L, D), to (1, H, W, D).

    Raises:
        ValueError: If L is no square number.
    """
    positions = positions.flatten(0, -2)
    side = round(len(positions) ** 0.5)
    if side * side != len(positions):
        raise ValueError(f'there are positions for {len(positions)} patches, which is no square')
    return positions.reshape(1, side, side, -1)
