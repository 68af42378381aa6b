"""Checks of a backbone's settings, which build nothing."""

import warnings
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from mmcv.cnn import build_norm_layer
from mmengine.utils import to_2tuple

from mmv2m.ops import BACKENDS

from ..layers import CORNERS, plan_corners
from ..layers.checks import check_choices, check_counts
from ..layers.class_token import CLASS_TOKENS
from ..layers.corners import check_coupled
from .arch import Arch, parse_arch

__all__ = [
    'OUT_FEATURES',
    'check_common',
    'check_sizes',
    'check_v2m',
    'stage_indices',
]

OUT_TYPES = ('raw', 'cls_token', 'featmap', 'avg_featmap')
OUT_FEATURES = ('stream', 'mixer')


def check_common(values: dict[str, Any]) -> None:
    """Check the settings that all backbones share, or several of them.

    Args:
        values: Every argument's name and value.

    Raises:
        ValueError: If a value is impossible. The message says what is possible.
    """
    check_choices(out_type=(values['out_type'], OUT_TYPES))
    _check_stage_number('frozen_stages', values['frozen_stages'])
    check_choices(scan_backend=(values['scan_backend'], ('auto', *BACKENDS)))
    stage_indices(values['out_indices'])
    for name in ('drop_rate', 'drop_path_rate'):
        _check_rate(name, values.get(name, 0.0))
    for name in ('norm_eval', 'with_cp'):
        _check_switch(name, values.get(name, False))
    check_counts(in_channels=values['in_channels'])
    _check_norm(values.get('norm_cfg'))
    _check_init(values.get('init_cfg'))


def check_v2m(values: dict[str, Any]) -> None:
    """Check the settings that only V2M has, each by itself and all together.

    Args:
        values: Every argument's name and value.

    Raises:
        ValueError: If a value is impossible. The message says what is possible.
        TypeError: If ``arch`` is neither a name nor a dict.
    """
    arch = parse_arch(values['arch'])
    plan_corners(values['corners'], values['geometry'])
    if values['class_token'] is not None:
        check_choices(class_token=(values['class_token'], CLASS_TOKENS))
    patch_size = arch.patch_size if values['patch_size'] is None else values['patch_size']
    check_sizes(values['img_size'], patch_size)
    scans = arch.scans is not None
    check_coupled(values['recurrence'], values['geometry'], arch.orders, arch.projects, scans)
    if arch.is_pyramid:
        _check_pyramid(values)
    if scans and tuple(values['corners']) != tuple(CORNERS):
        raise ValueError('corners do not go with an arch that has scans: they name the corners')
    if values['geometry'] == 'released':
        _check_released(arch, values, patch_size)


def stage_indices(out_indices: int | Sequence[int]) -> tuple[int, ...]:
    """Bring ``out_indices`` into the form of ascending numbers from 0 to 3.

    Raises:
        ValueError: If an index names no stage, or there is no index.
    """
    given = [out_indices] if isinstance(out_indices, int) else out_indices
    valid = isinstance(given, Sequence) and all(map(_is_integer, given))
    if not valid or not given or any(i not in range(-4, 4) for i in given):
        raise ValueError(
            f'out_indices must be stages from 0 to 3, or from -4 to -1, but got {out_indices!r}'
        )
    return tuple(sorted({i % 4 for i in given}))


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive_integer(value: object) -> bool:
    return _is_integer(value) and value > 0


def _check_stage_number(name: str, value: object) -> None:
    if not _is_integer(value) or value not in range(-1, 5):
        raise ValueError(f'{name} must be one of -1, 0, 1, 2, 3, 4, but got {value!r}')


def _check_switch(name: str, value: object) -> None:
    # A string such as 'False' would count as true.
    if not isinstance(value, bool):
        raise ValueError(f'{name} must be True or False, but got {value!r}')


def _check_rate(name: str, value: object) -> None:
    valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1
    if not valid:
        raise ValueError(f'{name} must be a number from 0 to below 1, but got {value!r}')


def _check_init(init_cfg: object) -> None:
    # mmengine asserts this without a message, and only after the model has been built.
    several = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    dicts = all(isinstance(one, dict) and 'type' in one for one in several)
    if init_cfg is not None and not dicts:
        raise ValueError(
            "init_cfg must be None or a dict with a type, such as dict(type='Pretrained', "
            f'checkpoint=FILE), or a list of such dicts, but got {init_cfg!r}'
        )


def _check_norm(norm_cfg: object) -> None:
    if norm_cfg is not None and not (isinstance(norm_cfg, dict) and 'type' in norm_cfg):
        raise ValueError(
            "norm_cfg must be None or a dict with a type, such as dict(type='LN'), but got "
            f'{norm_cfg!r}'
        )
    if norm_cfg is not None and not _normalises_tokens(norm_cfg):
        raise ValueError(
            'norm_cfg must name a norm of each token of a (B, H, W, D) map over its D channels, '
            f"such as dict(type='LN') or dict(type='RMSNorm'), but got {norm_cfg!r}"
        )


def _normalises_tokens(norm_cfg: dict) -> bool:
    """Whether a norm takes channels-last maps and normalises each token by itself."""
    x = torch.linspace(-1, 1, 2 * 3 * 64).square().view(1, 2, 3, 64)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            norm = build_norm_layer(norm_cfg, 64)[1].eval()
            x = x.to(next((p.device for p in norm.parameters()), x.device))
            y, of_token = norm(x), norm(x[:, 1:, 2:])
    except Exception:
        return False
    return y.shape == x.shape and (x.is_meta or torch.allclose(y[:, 1:, 2:], of_token, atol=1e-4))


def check_sizes(img_size: Any, patch_size: object) -> None:
    """Raise a ValueError unless the sizes of image and patches are positive integers."""
    sides = (*to_2tuple(img_size), patch_size)
    if len(sides) != 3 or not all(map(_is_positive_integer, sides)):
        raise ValueError(
            'img_size and patch_size must be positive integers, img_size one or two; got '
            f'{img_size!r} and {patch_size!r}'
        )


def _check_pyramid(values: dict[str, Any]) -> None:
    if values['class_token'] not in (None, 'mean'):
        raise ValueError(
            "a pyramid has no class tokens: leave class_token out, or use 'mean'; got "
            f'{values["class_token"]!r}'
        )
    if values['patch_size'] not in (None, 4):
        raise ValueError(
            "a pyramid's stem always makes tokens of 4 x 4 pixels: leave patch_size out; got "
            f'{values["patch_size"]!r}'
        )


def _check_released(arch: Arch, values: dict[str, Any], patch_size: int) -> None:
    varied = (arch.share, arch.orders, arch.merge) != ('all', 'one', 'sum')
    if arch.is_pyramid or varied or arch.scans is not None:
        raise ValueError("geometry='released' is for the plain models, the only ones released")
    rows, columns = (-(-side // patch_size) for side in to_2tuple(values['img_size']))
    if rows != columns or values['class_token'] != 'mean':
        raise ValueError(
            "geometry='released' needs square images and class_token='mean': "
            'the released code has nothing else'
        )
