"""Check how a segmentor of mmseg is tested, which is first seen behind many training steps."""

from typing import Any

from mmengine.config import Config

from mmv2m.utils.suggestions import did_you_mean

from ..errors import UserError
from .model import inner_model
from .settings import type_name

__all__ = ['check_windows']

READ = ('mode', 'crop_size', 'stride')
SEGMENTORS = ('EncoderDecoder', 'CascadeEncoderDecoder')


def check_windows(cfg: Config) -> None:
    """Check the ``test_cfg`` of mmseg's usual segmentors.

    Args:
        cfg: The whole config.

    Raises:
        UserError: If the mode is unknown, or a sliding window lacks a size or a stride, or would
            leave pixels out.
    """
    model: Any = inner_model(cfg)
    if type_name(model) not in SEGMENTORS:
        return
    where, settings = 'model.test_cfg', model.get('test_cfg') or {}
    for name in settings:
        near = did_you_mean(name, READ, cutoff=0.8)
        if name not in READ and near:
            raise UserError(f'{where} has no setting {name!r}{near}')
    mode = settings.get('mode')
    if mode not in ('slide', 'whole'):
        raise UserError(f"{where}.mode must be 'slide' or 'whole', but is {mode!r}")
    if mode == 'whole':
        return
    for name in ('crop_size', 'stride'):
        if not _is_pair(settings.get(name)):
            raise UserError(
                f"{where}.{name} must be (height, width) for mode='slide', but is "
                f'{settings.get(name)!r}'
            )
    crop, stride = settings['crop_size'], settings['stride']
    if any(step > side for side, step in zip(crop, stride, strict=True)):
        raise UserError(
            f'{where}.stride {tuple(stride)} is larger than crop_size {tuple(crop)}: pixels '
            'between the windows would be left out'
        )


def _is_pair(value: Any) -> bool:
    numbers = isinstance(value, (list, tuple)) and all(isinstance(x, int) for x in value)
    return numbers and len(value) == 2 and min(value) > 0
