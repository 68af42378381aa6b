"""Parameters and FLOPs, by the two counting rules that are in use for state space models."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .meta_model import build_on_meta, forward_without_annotations
from .operator_flops import OperatorFlops

__all__ = [
    'COUNTING_RULES',
    'Complexity',
    'image_channels',
    'measure_complexity',
    'measure_config',
    'usual_size',
]

COUNTING_RULES = {
    'matmul+conv': 'multiply-accumulates of matrix products and convolutions; scans count nothing '
    "(the paper's rule for the plain models)",
    'matmul+conv+scan': "the same, and 9 * L * E * N for each scan over L tokens (VMamba's rule); "
    '30 * L * E * N for each scan of two coupled states',
}


class Complexity(NamedTuple):
    """The cost of a model.

    Attributes:
        params: Number of parameters.
        flops: Multiply-accumulates for one image, by a name of :data:`COUNTING_RULES`.
    """

    params: int
    flops: dict[str, int]


def measure_complexity(
    model: nn.Module,
    shape: tuple[int, int],
    forward: Callable[..., Any] | None = None,
    channels: int = 3,
) -> Complexity:
    """Count a model's parameters and its FLOPs on one image.

    Args:
        model: The model.
        shape: H and W of the image.
        forward: Function that runs on the (1, C, H, W) image. Defaults to the model itself.
        channels: Channels of the image, C.
    """
    operators = OperatorFlops()
    counter = FlopCounterMode(display=False, custom_mapping=operators.rules())
    device = next(model.parameters()).device
    image = torch.zeros(1, channels, *shape, device=device)
    training = model.training
    model.eval()
    with torch.no_grad(), counter:
        (forward or model)(image)
    model.train(training)
    products = counter.get_total_flops() // 2  # the counter counts a multiply-accumulate twice
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        flops={'matmul+conv': products, 'matmul+conv+scan': products + operators.scans},
    )


def measure_config(cfg: Config, shape: tuple[int, int]) -> Complexity:
    """Count the parameters and FLOPs of a config's model, from shapes alone.

    For a two-stage detector, 1,000 boxes and 100 masks count, as in mmdet.

    Args:
        cfg: Config of mmpretrain, mmdet or mmseg, whose model has been checked already.
        shape: H and W of the image.
    """
    model = build_on_meta(cfg)
    forward = partial(forward_without_annotations, model)
    return measure_complexity(model, shape, forward, image_channels(cfg))


def image_channels(cfg: Config) -> int:
    """The channels of the images that a config's backbone takes, or 3 if it does not say."""
    backbone = cfg.model.get('backbone')
    backbone = backbone if isinstance(backbone, dict) else {}
    found = backbone.get('in_channels', backbone.get('in_chans'))
    return found if isinstance(found, int) else 3


def usual_size(cfg: Config) -> tuple[int, int]:
    """H and W of the usual images of a config, in pixels.

    For a detector, they are 800 and 1280, as in papers. Otherwise, the first of these that has a
    size determines it: the data preprocessor, the backbone, and the last step of the test pipeline
    with a ``crop_size``. If none does, they are 224 for a classifier and 512 for a segmentor.
    """
    if cfg.get('default_scope') == 'mmdet':
        return 800, 1280
    pipeline = ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline') or []
    for size in (
        (cfg.model.get('data_preprocessor') or {}).get('size'),
        (cfg.model.get('backbone') or {}).get('img_size'),
        *(step.get('crop_size') for step in reversed(pipeline)),
    ):
        if isinstance(size, int):
            return size, size
        if isinstance(size, (list, tuple)) and len(size) == 2:
            return size[0], size[1]
    return (512, 512) if cfg.get('default_scope') == 'mmseg' else (224, 224)
