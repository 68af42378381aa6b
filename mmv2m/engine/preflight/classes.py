"""Check that a data set has as many classes as the model's heads."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import UserError
from .model import inner_model, numbered
from .settings import type_name

__all__ = ['check_class_count', 'check_mixed_labels', 'head_settings', 'named_classes']

HEADS = ('head', 'bbox_head', 'mask_head', 'decode_head', 'auxiliary_head')
"""Heads whose ``num_classes`` is the number of the data's classes."""

OTHER_CLASSES = ('panoptic_fusion_head', 'semantic_head', 'text_encoder', 'language_model')
"""Parts of models whose heads share the classes, or that read them as words of a prompt."""


def named_classes(where: str, dataset: dict, found: Any) -> list[str] | None:
    """The names of a data set's classes, as its config or else its class has them.

    Args:
        where: Where the data set stands in the config.
        dataset: Its settings.
        found: Its class.

    Returns:
        The names in the order of their labels; None if there are none.

    Raises:
        UserError: If they are a string that names no file, as ``('cat')`` is without its comma.
    """
    names = (dataset.get('metainfo') or {}).get('classes') or dataset.get('classes')
    if isinstance(names, str):
        if not Path(names).is_file():
            raise UserError(
                f'{where}: classes is the string {names!r}, neither a file nor a tuple of names; '
                f'with its comma, a tuple of one name is ({names!r},)'
            )
        return Path(names).read_text().splitlines()
    names = names or (getattr(found, 'METAINFO', None) or {}).get('classes')
    return list(names) if isinstance(names, (list, tuple)) else None


def check_class_count(cfg: Config, where: str, dataset: dict, classes: Sequence[str]) -> None:
    """Compare a data set's classes with the ``num_classes`` of the model's heads.

    Args:
        cfg: The whole config.
        where: Where the data set stands in it.
        dataset: Its settings.
        classes: Their names.

    Raises:
        UserError: If a head has more or fewer classes.
    """
    model = inner_model(cfg) if cfg.get('model') is not None else {}
    if dataset.get('return_classes') or any(key in model for key in OTHER_CLASSES):
        return
    for head, count in head_settings(model, 'num_classes'):
        if count != len(classes):
            names = ', '.join(map(str, classes[:3])) + (', ...' if len(classes) > 3 else '')
            noun = 'class' if len(classes) == 1 else 'classes'
            raise UserError(
                f'{head} is {count}, but {where} has {len(classes)} {noun} ({names}): '
                f"set {head}={len(classes)}, or the data set's metainfo=dict(classes=(...))"
            )


def head_settings(model: dict, name: str, where: str = 'model') -> Iterator[tuple[str, int]]:
    """A number that a model's heads have, such as ``num_classes``, and where each stands.

    Heads that do not tell the classes apart are left out.
    """
    for key in HEADS:
        for place, head in numbered(model.get(key), f'{where}.{key}'):
            value, kind = head.get(name), type_name(head)
            others = head.get('class_agnostic') or kind.endswith('STDCHead')  # which finds edges
            if isinstance(value, int) and not others:
                yield f'{place}.{name}', value
    if isinstance(model.get('roi_head'), dict):
        yield from head_settings(model['roi_head'], name, f'{where}.roi_head')


def check_mixed_labels(cfg: Config) -> None:
    """Check that labels are mixed, as Mixup and CutMix do, for as many classes as the head has.

    Raises:
        UserError: If the data preprocessor or the loss names another number.
    """
    model = inner_model(cfg)
    head = model.get('head')
    head = head if isinstance(head, dict) else {}
    count = head.get('num_classes')
    if not isinstance(count, int) or not (model.get('train_cfg') or {}).get('augments'):
        return
    loss = head.get('loss')
    for where, part in (
        ('model.data_preprocessor', model.get('data_preprocessor')),
        ('data_preprocessor', cfg.get('data_preprocessor')),
        ('model.head.loss', loss if isinstance(loss, dict) else None),
    ):
        other = part.get('num_classes') if part else None
        if other is not None and other != count:
            raise UserError(
                f'{where}.num_classes is {other}, but model.head.num_classes is {count}: labels '
                'are mixed (model.train_cfg.augments), so both have to be the same'
            )
