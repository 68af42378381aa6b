"""A config's backbone with weights, and images in the form that its preprocessor gives them."""

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

__all__ = ['build_backbone', 'height_and_width', 'prepare_picture', 'read_images']

PREFIX = 'backbone.'

KINDS = ('.png', '.jpg', '.jpeg', '.pdf')
"""Pictures that both Pillow and matplotlib save."""


def build_backbone(cfg: Config, checkpoint: str | None = None) -> nn.Module:
    """Build the backbone of a classifier, detector or segmentor, in eval mode.

    Args:
        cfg: The config.
        checkpoint: A checkpoint of the whole model, of the backbone alone, or of official code.
            Without one, the backbone has the weights with which a training would start.

    Raises:
        OSError: If the checkpoint cannot be read.
        RuntimeError: If its weights do not fit.
        ValueError: If the file is no checkpoint.
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


def height_and_width(numbers: Sequence[int]) -> tuple[int, int]:
    """The image size of a command line, one number or two.

    Raises:
        ValueError: If there are more, or they are not positive.
    """
    if len(numbers) > 2 or min(numbers) < 1:
        raise ValueError(
            f'--size takes one or two positive numbers, but got {" ".join(map(str, numbers))}'
        )
    return numbers[0], numbers[-1]


def prepare_picture(path: str) -> None:
    """Make the folder of a picture, before the work for it is done.

    Raises:
        OSError: If it cannot be made.
        ValueError: If the suffix is of no kind of picture.
    """
    if Path(path).suffix.lower() not in KINDS:
        raise ValueError(f'--out {path}: a picture is one of {", ".join(KINDS)}')
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def read_images(cfg: Config, paths: Sequence[str], size: tuple[int, int]) -> Tensor:
    """Read and resize image files, and bring them to a config's channel order and normalisation.

    Args:
        cfg: The config with the ``data_preprocessor``.
        paths: The files. Without any, four images of normally distributed noise are made.
        size: H and W in pixels.

    Returns:
        (B, 3, H, W), float32. Noise has as many channels as the backbone takes.

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
        batch = batch.flip(1)  # BGR, the order of the libraries' loaders
    mean, std = (
        torch.tensor(preprocessor.get(name) or [default] * 3).view(1, -1, 1, 1)
        for name, default in (('mean', 0.0), ('std', 1.0))
    )
    return (batch - mean) / std
