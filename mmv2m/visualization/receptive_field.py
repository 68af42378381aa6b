"""Effective receptive fields: how much each pixel changes one place of the last map."""

import numpy as np
import torch
from torch import Tensor, nn

from mmv2m.models.backbones.staged import StagedBackbone

__all__ = ['effective_receptive_field', 'side_holding']


def effective_receptive_field(
    backbone: nn.Module, images: Tensor, place: tuple[int, int] | None = None
) -> np.ndarray:
    """Compute the gradient of one place of the last map with respect to the pixels.

    As in RepLKNet (https://arxiv.org/abs/2203.06717), it is the gradient of the sum of the map's
    positive channels. (The sum of all channels behind a LayerNorm is constant.) Here its absolute
    values are summed over the image's channels and averaged over the images.

    Args:
        backbone: A backbone of this project with any ``out_type``, or any other backbone whose last
            output is a (B, D, h, w) map. It should be in eval mode.
        images: (B, C, H, W), preprocessed.
        place: Row and column in the map. Defaults to its middle.

    Returns:
        (H, W), float32, from 0 to 1. The largest value is 1.

    Raises:
        TypeError: If the last output is no map.
        ValueError: If the map has no such place, or nothing reaches it.
    """
    images = images.detach().clone().requires_grad_()
    y = _last_map(backbone, images)
    row, column = place or (y.shape[2] // 2, y.shape[3] // 2)
    if not (0 <= row < y.shape[2] and 0 <= column < y.shape[3]):
        raise ValueError(f'the map has {y.shape[2]} x {y.shape[3]} places, none at {row}, {column}')
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(y[:, :, row, column].relu().sum(), images)
    field = gradient.abs().sum(1).mean(0).float()
    if not field.max() > 0:
        raise ValueError('no pixel reaches this place: its gradient is zero')
    return (field / field.max()).cpu().numpy()


def side_holding(field: np.ndarray, share: float) -> int:
    """Find the side of the smallest square in the middle that holds a share of a receptive field.

    Args:
        field: The field, (H, W).
        share: The share of the field's sum, from 0 to 1.

    Returns:
        The side in pixels. At the edges of a field that is not square, the square is cut off.
    """
    height, width = field.shape
    for side in range(2 - height % 2, max(field.shape) + 2, 2):
        top, left = max((height - side) // 2, 0), max((width - side) // 2, 0)
        if field[top : top + side, left : left + side].sum() >= share * field.sum() * (1 - 1e-6):
            return side
    return max(field.shape)


def _last_map(backbone: nn.Module, images: Tensor) -> Tensor:
    if not isinstance(backbone, StagedBackbone):
        y = backbone(images)
        y = y[-1] if isinstance(y, (tuple, list)) else y
        if not isinstance(y, Tensor) or y.dim() != 4:
            raise TypeError(f'the last output of {type(backbone).__name__} is no (B, D, h, w) map')
        return y
    usual, backbone.out_type = backbone.out_type, 'featmap'
    try:
        last: Tensor = backbone(images)[-1]
        return last
    finally:
        backbone.out_type = usual
