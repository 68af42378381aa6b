"""Class activation maps of classifiers, by pytorch-grad-cam."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmv2m.models.backbones.staged import StagedBackbone

__all__ = ['activation_map', 'overlay']


class _Scores(nn.Module):
    """A classifier as a function of preprocessed images."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Compute scores, (B, classes), of images, (B, 3, H, W)."""
        scores: Tensor = self.model(images, mode='tensor')
        return scores


def activation_map(
    model: nn.Module, images: Tensor, layer: str | None = None, category: int | None = None
) -> tuple[np.ndarray, int]:
    """Compute a map of the parts of an image that raise the score of a class.

    The method is Grad-CAM (https://arxiv.org/abs/1610.02391).

    Args:
        model: A classifier of mmpretrain with one of this project's backbones, in eval mode.
        images: One image, (1, 3, H, W), from the model's preprocessor.
        layer: Name of a module in the backbone whose output is a (B, h, w, D) map, such as
            ``'stages.3'`` or ``'stages.3.0.norm'``. Defaults to the last stage.
        category: The class. Defaults to the one with the highest score.

    Returns:
        The map, (H, W), with values from 0 to 1, and the class.

    Raises:
        ImportError: If pytorch-grad-cam is not installed.
        TypeError: If the backbone is not one of this project's.
        ValueError: If the backbone has no such layer, or the classifier no such class.
    """
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise ImportError('class activation maps need: pip install grad-cam') from error
    backbone = model.backbone
    if not isinstance(backbone, StagedBackbone):
        raise TypeError(f"the backbone is a {type(backbone).__name__}, which is not mmv2m's")
    names = dict(backbone.named_modules())
    layer = layer or f'stages.{len(backbone.stages) - 1}'
    if layer not in names:
        raise ValueError(f'the backbone has no module {layer!r}; there is {list(names)[-1]!r}')
    scores = _Scores(model)
    with torch.no_grad():
        (row,) = scores(images)
    category = int(row.argmax()) if category is None else category
    if category not in range(len(row)):
        raise ValueError(f'category must be from 0 to {len(row) - 1}, but is {category}')

    def reshape(y: Tensor) -> Tensor:
        return backbone.class_token.strip(y).permute(0, 3, 1, 2)

    with GradCAM(scores, [names[layer]], reshape_transform=reshape) as cam:
        (found,) = cam(images, [ClassifierOutputTarget(category)])
    return found, category


def overlay(image: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Paint a class activation map on its image.

    Args:
        image: The image, (H, W, 3) in uint8, RGB.
        found: The map, (h, w), with values from 0 to 1.

    Returns:
        The painted image, (H, W, 3) in uint8, RGB.
    """
    import cv2
    from pytorch_grad_cam.utils.image import show_cam_on_image

    size: Any = image.shape[1::-1]
    found = cv2.resize(found, size, interpolation=cv2.INTER_LINEAR)
    shown: np.ndarray = show_cam_on_image(image.astype(np.float32) / 255, found, use_rgb=True)
    return shown
