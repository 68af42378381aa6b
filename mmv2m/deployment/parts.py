"""The parts of an OpenMMLab model that can be exported, and facts that their users need."""

import json
from typing import Any

from torch import Tensor, nn

__all__ = ['PARTS', 'Features', 'Logits', 'describe', 'part_of']

PARTS = ('model', 'backbone')
"""A whole classifier, or the backbone of any model, with its neck if there is one."""


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
        """Turn images (B, 3, H, W) into logits (B, classes)."""
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
        """Turn images (B, 3, H, W) into one tensor for each output of the neck or the backbone."""
        return tuple(self.neck(self.backbone(images)))


def part_of(model: nn.Module, part: str) -> nn.Module:
    """Wrap a part of a model as a module that takes normalised images.

    Args:
        model: A model of mmpretrain, mmdet or mmseg.
        part: One of :data:`PARTS`.

    Raises:
        ValueError: If the model has no backbone, or the whole model is asked for and is no
            classifier.
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
    """Describe the preprocessing of a model's images, and its classes.

    Args:
        model: A model of mmpretrain, mmdet or mmseg.
        channels: The result of :func:`.loaded_channels` for its config.
        classes: Names of the classes, if known.

    Returns:
        ``channels``, which is ``RGB`` or ``BGR``; ``mean`` and ``std`` of each channel, in units of
        pixel values from 0 to 255; and ``classes``. The last three are JSON, and are missing if
        they are not known.
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
