"""A config's backbone with weights, and images as its preprocessor makes them."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import checkpoint as loading
from PIL import Image
from torch import Tensor, nn

from mmv2m.utils.checkpoints import read_checkpoint
from mmv2m.utils.quiet import without_information
from mmv2m.utils.weight_conversion import find_weights

__all__ = ['build_backbone', 'read_images']

PREFIX = 'backbone.'


def build_backbone(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """The backbone of a classifier, detector or segmentor, in eval mode.

    Args:
        cfg: The config.
        checkpoint: A checkpoint of the whole model, of the backbone alone, or an official one;
            without one, the backbone starts as a training would.

    Raises:
        OSError: If the checkpoint cannot be read.
        RuntimeError: If its weights do not fit.
        ValueError: If it is no checkpoint.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        backbone: Any = MODELS.build(deepcopy(cfg.model.backbone))
    if checkpoint is None:
        with without_information():
            backbone.init_weights()
        return backbone.eval()
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f'{checkpoint} does not exist')
    weights = find_weights(read_checkpoint(checkpoint))
    own = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
    loading.load_state_dict(backbone, own or weights)
    return backbone.eval()


def read_images(cfg: Config, paths: Sequence[str], size: tuple[int, int]) -> Tensor:
    """Image files, resized, in the channel order and normalisation of a config.

    Args:
        cfg: The config, whose ``data_preprocessor`` counts.
        paths: The files; without any, four images of noise from the normal distribution.
        size: H and W.

    Returns:
        (B, 3, H, W), float32; noise has as many channels as the backbone takes.

    Raises:
        OSError: If a file cannot be read.
    """
    if not paths:
        channels = cfg.model.backbone.get('in_channels', 3)
        return torch.randn(4, channels, *size, generator=torch.Generator().manual_seed(0))
    preprocessor = dict(cfg.get('data_preprocessor') or {})
    preprocessor |= cfg.model.get('data_preprocessor') or {}
    images = []
    for path in paths:
        pixels = np.array(
            Image.open(path).convert('RGB').resize(size[::-1], Image.Resampling.BICUBIC)
        )
        images.append(torch.from_numpy(pixels).permute(2, 0, 1).float())
    batch = torch.stack(images)
    if not (preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')):
        batch = batch.flip(1)  # the loaders' order, blue first
    mean, std = (
        torch.tensor(preprocessor.get(name) or [default] * 3).view(1, -1, 1, 1)
        for name, default in (('mean', 0.0), ('std', 1.0))
    )
    return (batch - mean) / std
