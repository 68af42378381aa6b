"""The settings by parameter that constructors of optimizers read."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor

from mmv2m.utils.arguments import takes
from mmv2m.utils.suggestions import did_you_mean, unknown_setting

__all__ = ['APPLIED', 'SETTINGS', 'check_paramwise']

APPLIED = ('lr_mult', 'decay_mult')
"""Keys that mmengine leaves in a group, and has already applied to lr and weight_decay."""

SETTINGS = (
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'flat_decay_mult',
    'bypass_duplicate',
)
"""What mmengine's constructor reads of ``paramwise_cfg``; of any other name it takes no notice."""


def check_paramwise(given: dict[str, Any], constructor: Any, optimizer: Any) -> None:
    """Check the names in a ``paramwise_cfg``.

    Args:
        given: The ``paramwise_cfg``.
        constructor: The class that reads it: mmengine's default one, or one whose ``settings`` are
            what it reads. Any other may read more, and is left alone.
        optimizer: The optimizer's class, whose settings ``custom_keys`` may have too.

    Raises:
        ValueError: If there is no such setting.
    """
    plain = constructor is DefaultOptimWrapperConstructor
    known = SETTINGS if plain else getattr(constructor, 'settings', None)
    if known is None:
        return
    for name in given:
        if name not in known:
            raise ValueError(
                f'paramwise_cfg: {unknown_setting(name, known)}; they are what '
                f'{constructor.__name__} reads'
            )
    # Others, such as LARS, read settings of a group that are no arguments of theirs.
    all_known = getattr(optimizer, '__module__', '').startswith('torch.optim.')
    for key, settings in (given.get('custom_keys') or {}).items():
        for name in settings:
            if name in APPLIED or takes(optimizer, name):
                continue
            if all_known or did_you_mean(name, APPLIED, cutoff=0.8):
                raise ValueError(
                    f'paramwise_cfg.custom_keys[{key!r}]: {unknown_setting(name, APPLIED)}, and '
                    f'{optimizer.__name__} has none either'
                )
