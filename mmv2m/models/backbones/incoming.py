"""Weights that are loaded into a backbone: they are renamed, fitted to its images, and checked."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmv2m.utils.official_weights import convert_official_weights, recognise

__all__ = ['inflate_incoming', 'rename_incoming', 'require_fit']

NEARLY = 0.9
"""The share of a backbone's tensors that weights have to fill.

The number of tensors that are left over may be at most the remaining share.
"""

ADAPTER = r'prior\.|level_embed$|interactions\.|up\.|out_norms\.'
MAY_BE_ABSENT = re.compile(rf'norm[0-2]\.|class_token\.|.*\.num_batches_tracked$|{ADAPTER}')
"""Tensors that a checkpoint may lack, since it may have other outputs or class tokens, no counters
of batches, or no adapter.
"""

MAY_DIFFER = re.compile(r'pos_embed\.|rotary\.|class_token\.')
"""Tensors that are resized when they are loaded."""

SIGNS = {
    'PlainMamba': r'stages\.\d+\.\d+\.mixer\.ssm\.direction_embed$',
    'LocalVim': r'stages\.\d+\.\d+\.mixer\.attention\.',
    'Vim': r'stages\.\d+\.\d+\.mixer\.scans\.',
    'EfficientVMamba': r'stages\.\d+\.\d+\.mixer\.scan\.grids\.',
    'VMamba': r'stages\.\d+\.\d+\.mixer\.(rows|columns)\.',
    'V2M': r'stages\.\d+\.\d+\.mixer\.ssm\.',
}
"""Patterns of tensor names by which each backbone is recognised; the first that matches counts."""


def rename_incoming(
    state_dict: dict, prefix: str, own: Mapping[str, Tensor], logger: Any = 'current'
) -> None:
    """Rename weights to a backbone's own names, in place, if they have other names that are known.

    Two kinds of names are known: those of official code, and those of a whole classifier, which
    begin with ``backbone.``. Tensors outside the classifier's backbone are left out.

    Args:
        state_dict: Weights that are being loaded.
        prefix: The backbone's place in the model, such as ``'backbone.'``.
        own: The backbone's state dict.
        logger: Where the renaming is logged, as for :func:`mmengine.logging.print_log`.

    Raises:
        ValueError: If the weights are official ones that cannot be converted.
    """
    held = _under(state_dict, prefix)
    if not held or _share(held, own) >= NEARLY:
        return
    family = recognise(held)
    converted = convert_official_weights(family, held) if family else held
    inner = _under(converted, 'backbone.')
    if not inner or (family is None and _share(inner, own) < NEARLY):
        return
    what = f'official weights ({family})' if family else "a classifier's weights"
    print_log(f'the backbone takes its part of {what}', logger=logger)
    for name in held:
        del state_dict[f'{prefix}{name}']
    state_dict.update({f'{prefix}{name}': value for name, value in inner.items()})


def inflate_incoming(
    backbone: nn.Module, state_dict: dict, prefix: str, logger: Any = 'current'
) -> None:
    """Fit weights for images of three channels to a backbone of more or fewer, in place.

    The rule is the one of timm's ``adapt_input_conv``. For one channel, the first convolution's
    weights are summed over the three channels. For any other number of channels, they are repeated
    (R G B R ...) and multiplied by 3 over that number, so that the output keeps its magnitude.

    Args:
        backbone: The backbone.
        state_dict: Weights under the backbone's own names.
        prefix: The backbone's place in the model, such as ``'backbone.'``.
        logger: Where the change is logged, as for :func:`mmengine.logging.print_log`.
    """
    name, own = _first_convolution(backbone)
    value = state_dict.get(f'{prefix}{name}')
    if own is None or value is None or value.dim() != 4 or value.shape[1] != 3:
        return
    channels = own.shape[1]
    if channels == 3 or own.shape != (value.shape[0], channels, *value.shape[2:]):
        return
    rgb = value.float()
    if channels == 1:
        inflated = rgb.sum(1, keepdim=True)
    else:
        inflated = rgb[:, [i % 3 for i in range(channels)]] * (3 / channels)
    state_dict[f'{prefix}{name}'] = inflated.to(value.dtype)
    print_log(
        f'{prefix}{name} is for images of 3 channels, and is fitted to in_channels={channels}',
        logger=logger,
    )


def require_fit(backbone: nn.Module, state_dict: Mapping[str, Tensor], prefix: str = '') -> None:
    """Require that weights fill nearly all of a backbone.

    Args:
        backbone: The backbone.
        state_dict: Weights under the backbone's own names.
        prefix: The backbone's place in the model, such as ``'backbone.'``.

    Raises:
        RuntimeError: If they do not; PyTorch raises the same type in such cases. The message names
            the prefix or the family that would fit, if there is one.
    """
    own = {k: v for k, v in backbone.state_dict().items() if not MAY_BE_ABSENT.match(k)}
    held = _under(state_dict, prefix)
    filled = [name for name in own if name in held and _same_shape(name, held[name], own[name])]
    left = _left_over(held, own)
    kind = type(backbone).__name__
    if len(filled) < NEARLY * len(own):
        raise RuntimeError(
            f'these weights fill {len(filled)} of the {len(own)} tensors of the backbone ({kind}): '
            f'{_why(backbone, state_dict, prefix, own)}'
        )
    name, weight = _first_convolution(backbone)
    if weight is not None and name in held and held[name].shape != weight.shape:
        raise RuntimeError(
            f'size mismatch for {prefix}{name}: {tuple(held[name].shape)} in the checkpoint, '
            f'{tuple(weight.shape)} in the backbone ({kind}); only weights for 3 channels are '
            'fitted to other in_channels'
        )
    if len(left) > (1 - NEARLY) * len(own):
        raise RuntimeError(
            f'these weights hold {len(left)} tensors that the stages of the backbone ({kind}) have '
            f'no place for, such as {left[0]}: '
            f'{_another_family(backbone, state_dict) or "they belong to another arch"}'
        )


def _first_convolution(backbone: nn.Module) -> tuple[str, Tensor | None]:
    """Name and value of the first convolution's weights, which read the image."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            return f'{name}.weight', module.weight
    return '', None


def _left_over(held: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Names of loaded tensors for which the backbone's stages have no place.

    Stages behind the backbone's last output are not built, so their tensors do not count.
    """
    stages = tuple({f'{name[: len("stages.0.")]}' for name in own if name.startswith('stages.')})
    return [name for name in held if name.startswith(stages) and name not in own]


def _another_family(backbone: nn.Module, names: Iterable[str]) -> str | None:
    """Say which other backbone the weights would fit, or return None."""
    names = list(names)
    family = next((f for f, sign in SIGNS.items() if any(re.search(sign, n) for n in names)), None)
    if family is None or family in {cls.__name__ for cls in type(backbone).__mro__}:
        return None
    return f'they belong to a {family}, so that type={family!r} would fit'


def _why(
    backbone: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, own: Mapping[str, Tensor]
) -> str:
    held = _under(state_dict, prefix)
    name = max(own, key=len)
    for place in sorted({key.removesuffix(name) for key in state_dict if key.endswith(name)}):
        if place != prefix and _share(_under(state_dict, place), own) >= NEARLY:
            if not place:
                return (
                    'they belong to a backbone alone; load them by the init_cfg of the backbone, '
                    "dict(type='Pretrained', checkpoint=...)"
                )
            return f'their names begin with {place!r}, so that prefix={place!r} would fit'
    if other := _another_family(backbone, state_dict):
        return other
    official = recognise(held) or recognise(state_dict)
    if official:
        return f'they are official weights ({official})'
    for name in own:
        if name in held and not _same_shape(name, held[name], own[name]):
            return (
                f'size mismatch for {prefix}{name}: {tuple(held[name].shape)} in the checkpoint, '
                f'{tuple(own[name].shape)} in the model, which has another arch'
            )
    lacking = next(name for name in own if name not in held)
    return f'{prefix}{lacking} is missing'


def _under(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}


def _share(held: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> float:
    wanted = [name for name in own if not MAY_BE_ABSENT.match(name)]
    return sum(name in held for name in wanted) / max(len(wanted), 1)


def _same_shape(name: str, value: Tensor, own: Tensor) -> bool:
    return bool(MAY_DIFFER.match(name)) or value.shape == own.shape
