"""Check that a detector's heads know how far apart the points of their maps are."""

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import UserError
from .model import numbered
from .settings import type_name

__all__ = ['check_strides']


def check_strides(model: dict, neck: Any, strides: Sequence[int]) -> None:
    """Compare the strides that heads behind an FPN name with those of its maps.

    With others, a detector trains without an error, on boxes in the wrong places.

    Args:
        model: Settings of the model.
        neck: Settings of its neck. Behind any but mmdet's FPN nothing is compared.
        strides: Pixels from one point of each output of the backbone to the next.

    Raises:
        UserError: If a head names other strides.
    """
    if neck is None or type_name(neck) != 'FPN' or neck.get('end_level', -1) != -1:
        return
    given = list(strides[neck.get('start_level', 0) :])
    while given and len(given) < neck.get('num_outs', 0):
        given.append(2 * given[-1])
    for where, named in _named_strides(model):
        if named != given[: len(named)]:
            raise UserError(
                f'{where} are {named}, but the maps behind this backbone and model.neck have the '
                f'strides {given}: boxes would be in the wrong places'
            )


def _named_strides(model: dict) -> Iterator[tuple[str, list[int]]]:
    """The strides that heads name, and where."""
    roi_head = model.get('roi_head') or {}
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        for where, part in numbered(roi_head.get(name), f'model.roi_head.{name}'):
            yield from _listed(f'{where}.featmap_strides', part.get('featmap_strides'))
    for name in ('rpn_head', 'bbox_head'):
        for where, head in numbered(model.get(name), f'model.{name}'):
            yield from _listed(f'{where}.strides', head.get('strides'))
            generator = head.get('anchor_generator') or {}
            yield from _listed(f'{where}.anchor_generator.strides', generator.get('strides'))


def _listed(where: str, value: Any) -> Iterator[tuple[str, list[int]]]:
    if isinstance(value, (list, tuple)) and all(isinstance(stride, int) for stride in value):
        yield where, list(value)
