"""Models on PyTorch's meta device, where only shapes are computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

__all__ = ['build_on_meta', 'forward_without_annotations']


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Send every parameter to the meta device as it is registered, before it is initialised.

    ``torch.device('meta')`` is not enough, because some backbones read numbers from tensors.
    """
    register = nn.Module.register_parameter

    def register_on_meta(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(self, name, parameter)
        if parameter is not None:
            meta = nn.Parameter(parameter.to('meta'), parameter.requires_grad)
            self._parameters[name] = meta

    nn.Module.register_parameter = register_on_meta  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def build_on_meta(cfg: Config, part: dict | None = None, **backbone: Any) -> nn.Module:
    """Build a config's model on PyTorch's meta device, where a forward pass computes shapes.

    Weights that an ``init_cfg`` names are not loaded.

    Args:
        cfg: Config of mmpretrain, mmdet or mmseg.
        part: A part of the config's model, such as ``cfg.model.backbone``, to build alone.
        **backbone: Settings of the backbone that replace the config's.

    Returns:
        The model or the part, in eval mode.
    """
    settings: Any = deepcopy(cfg.model if part is None else part)  # building fills in defaults
    if backbone:
        settings.backbone.update(backbone)
    scope = cfg.get('default_scope', 'mmengine')
    with DefaultScope.overwrite_default_scope(scope), _parameters_on_meta():
        model = MODELS.build(settings).to('meta')
    model.eval()  # some backbones return nothing from it
    return model


def forward_without_annotations(
    model: Any, images: Tensor, proposals: int = 1000, masks: int = 100
) -> Any:
    """Compute the part of a training step that needs no annotations.

    Args:
        model: A classifier, detector or segmentor.
        images: Preprocessed images, (B, 3, H, W).
        proposals: Number of boxes that a two-stage detector classifies. The heads get empty
            features of this number, as in mmdet's counting of FLOPs.
        masks: Number of boxes whose masks are predicted.

    Returns:
        The logits. For a two-stage detector, the outputs of the RPN, the box head and the mask head
        (None without one).
    """
    roi_head = getattr(model, 'roi_head', None)
    if roi_head is None:
        return model(images, mode='tensor')
    maps = model.extract_feat(images)
    boxes = roi_head.bbox_head(_roi_features(roi_head.bbox_roi_extractor, images, proposals))
    mask = None
    if roi_head.with_mask:
        mask = roi_head.mask_head(_roi_features(roi_head.mask_roi_extractor, images, masks))
    return model.rpn_head(maps), boxes, mask


def _roi_features(extractor: Any, images: Tensor, count: int) -> Tensor:
    size = extractor.roi_layers[0].output_size
    return torch.empty(count, extractor.out_channels, *size, device=images.device)
