"""Which part of an OpenMMLab model becomes a program, and what its user has to know."""

import json
from typing import Any

from torch import Tensor, nn

__all__ = ['PARTS', 'Features', 'Logits', 'describe', 'part_of']

PARTS = ('model', 'backbone')
"""A classifier as a whole; or of any model the backbone, with its neck if there is one."""


class Logits(nn.Module):
    """A classifier of mmpretrain as a function of its normalised images alone.

    Args:
        model: The classifier.
    """

    outputs = ('logits',)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, classes)."""
        logits: Tensor = self.model(images, mode='tensor')
        return logits


class Features(nn.Module):
    """The backbone of any model, with its neck if there is one.

    Args:
        model: A classifier, detector or segmentor.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck if getattr(model, 'with_neck', False) else nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to one tensor for each output of the neck, or of the backbone."""
        return tuple(self.neck(self.backbone(images)))


def part_of(model: nn.Module, part: str) -> nn.Module:
    """A part of a model, as a module that takes normalised images.

    Args:
        model: A model of mmpretrain, mmdet or mmseg.
        part: One of :data:`PARTS`.

    Raises:
        ValueError: If the whole of a model that is no classifier is asked for, or a part of one
            that has no backbone.
    """
    if not hasattr(model, 'backbone'):
        raise ValueError(f'a {type(model).__name__} has no backbone')
    if part == 'backbone':
        return Features(model)
    from mmpretrain.models import ImageClassifier

    if not isinstance(model, ImageClassifier):
        raise ValueError(
            f'only classifiers are exported as a whole, and this is a {type(model).__name__}: give '
            '--part backbone for its backbone and neck'
        )
    return Logits(model)


def describe(model: Any, channels: str, classes: Any = None) -> dict[str, str]:
    """What has to be done to images before the model takes them, and what its classes are.

    Args:
        model: A model of mmpretrain, mmdet or mmseg.
        channels: What :func:`.loaded_channels` says of its config.
        classes: Names of the classes, if known.

    Returns:
        ``channels`` (``RGB`` or ``BGR``); ``mean`` and ``std`` of each, in units of pixel values
        from 0 to 255; ``classes``. The last three are JSON, and there only if known.
    """
    preprocessor = model.data_preprocessor
    if any(getattr(preprocessor, name, False) for name in ('to_rgb', '_channel_conversion')):
        channels = channels[::-1]
    found = dict(channels=channels)
    if getattr(preprocessor, '_enable_normalize', False):
        for name in ('mean', 'std'):
            found[name] = json.dumps(
                [round(v, 6) for v in getattr(preprocessor, name).flatten().tolist()]
            )
    if classes is not None:
        found['classes'] = json.dumps(list(classes))
    return found
