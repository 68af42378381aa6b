"""Parameters and FLOPs, under the two counting rules in use for state space models."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmv2m.ops.directions import read_corners, read_directions, write_directions
from mmv2m.ops.groups import unpack_groups

from .meta_model import build_on_meta, forward_without_annotations

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
    """What a model costs.

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
        forward: What to run on the (1, C, H, W) image; the model itself by default.
        channels: C.
    """
    scans = 0

    def count_scan(x: torch.Size, delta: Any, A: torch.Size, *args: Any, **kwargs: Any) -> int:
        nonlocal scans
        scans += 9 * x.numel() * A[-1]
        return 0

    def count_coupled(x: torch.Size, delta: Any, A: torch.Size, *args: Any, **kwargs: Any) -> int:
        """Two states: each counts as a scan, and 6 more for what it takes of the other one.

        These are the second decay's argument and exponential, both terms' shares, and the second
        term's product and sum.
        """
        nonlocal scans
        scans += 2 * 15 * x.numel() * A[-1]
        return 0

    def count_conv(x: torch.Size, weight: torch.Size, *args: Any, **kwargs: Any) -> int:
        return 2 * x.numel() * weight[-1]

    def count_convs(
        x: torch.Size, weight: torch.Size, bias: Any, directions: str, *args: Any, **kwargs: Any
    ) -> int:
        """In several directions, of a map for each or one for all."""
        return len(read_directions(directions)) * count_conv(x[-4:], weight)

    def count_ssm(x: torch.Size, *args: Any, **kwargs: Any) -> int:
        """Convolution, projections and scan in one operator."""
        nonlocal scans
        _, conv_weight, _, x_proj, dt_proj, _, A, _, directions = args[:9]
        tokens = len(read_directions(directions)) * x[-4:].numel()
        scans += 9 * tokens * A[-1]
        taps = 0 if conv_weight is None else conv_weight[-1]
        return 2 * tokens * (taps + x_proj[0] + dt_proj[-1])

    def count_coupled_ssm(
        x: torch.Size, parameters: Sequence[Any], corners: str, *args: Any, **kwargs: Any
    ) -> int:
        """Convolutions along both axes, projections and the scan, from each corner."""
        conv, _, second, _, x_proj, dt_proj, second_dt, _, A, *_ = parameters
        maps = torch.Size((len(read_corners(corners)[0].corners), *x))
        count_coupled(maps, None, A)
        return 2 * maps.numel() * (conv[-1] + second[-1] + x_proj[0] + dt_proj[-1] + second_dt[-1])

    def count_corner_ssm(x: torch.Size, gate: Any, *args: Any, **kwargs: Any) -> int:
        """Both scans of all groups of corners."""
        return sum(
            count_ssm(x, None, *parameters, write_directions(directions))
            for rows, columns, corners in unpack_groups(*args[:2])
            for parameters, directions in ((rows, corners.first), (columns, corners.second))
        )

    def count_ss2d(
        x: torch.Size, in_weight: torch.Size, out_weight: torch.Size, *args: Any, **kwargs: Any
    ) -> int:
        """The 2D SSM between two linear layers."""
        scanned = torch.Size((*x[:-1], out_weight[1]))
        products = count_product(x, in_weight) + count_product(scanned, out_weight)
        return products + count_corner_ssm(scanned, None, *args[2:])

    def count_product(x: torch.Size, weight: torch.Size) -> int:
        return 2 * x.numel() * weight[0]

    def count_gated_linear(x: torch.Size, z: Any, weight: torch.Size, *args: Any, **kw: Any) -> int:
        return count_product(x, weight)

    def count_mlp(x: torch.Size, parameters: Sequence[Any], *args: Any, **kwargs: Any) -> int:
        """Two linear layers."""
        weight, _, out_weight, _ = parameters
        hidden = torch.Size((*x[:-1], weight[0]))
        return count_product(x, weight) + count_product(hidden, out_weight)

    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            torch.ops.mmv2m.directional_scan: count_scan,
            torch.ops.mmv2m.coupled_scan: count_coupled,
            torch.ops.mmv2m.coupled_ssm: count_coupled_ssm,
            torch.ops.mmv2m.directional_conv: count_conv,
            torch.ops.mmv2m.directional_convs: count_convs,
            torch.ops.mmv2m.directional_ssm: count_ssm,
            torch.ops.mmv2m.corner_ssm: count_corner_ssm,
            torch.ops.mmv2m.ss2d: count_ss2d,
            torch.ops.mmv2m.ss2d_inference: count_ss2d,
            torch.ops.mmv2m.gated_linear: count_gated_linear,
            torch.ops.mmv2m.mlp: count_mlp,
        },
    )
    device = next(model.parameters()).device
    image = torch.zeros(1, channels, *shape, device=device)
    training = model.training
    model.eval()
    with torch.no_grad(), counter:
        (forward or model)(image)
    model.train(training)
    products = counter.get_total_flops() // 2  # the counter takes a multiply-add for two
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        flops={'matmul+conv': products, 'matmul+conv+scan': products + scans},
    )


def measure_config(cfg: Config, shape: tuple[int, int]) -> Complexity:
    """Count the parameters and FLOPs of a config's model, on shapes alone.

    Of a two-stage detector, 1,000 boxes and 100 masks count, as in mmdet.

    Args:
        cfg: Config of mmpretrain, mmdet or mmseg, its model checked already.
        shape: H and W of the image.
    """
    model = build_on_meta(cfg)
    forward = partial(forward_without_annotations, model)
    return measure_complexity(model, shape, forward, image_channels(cfg))


def image_channels(cfg: Config) -> int:
    """The channels of the images that a config's backbone takes; 3 if it does not say."""
    backbone = cfg.model.get('backbone')
    backbone = backbone if isinstance(backbone, dict) else {}
    found = backbone.get('in_channels', backbone.get('in_chans'))
    return found if isinstance(found, int) else 3


def usual_size(cfg: Config) -> tuple[int, int]:
    """H and W of the images that a config is for.

    For a detector they are 800 and 1280, as papers count. Otherwise they are those of the data
    preprocessor or the backbone, if one of them says, or those of the last resizing or cropping
    before the model, and else 224 for a classifier and 512 for a segmentor.
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
