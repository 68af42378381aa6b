"""Check that what follows a backbone takes what the backbone gives."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import Tensor

from mmv2m.utils.meta_model import build_on_meta

from ..errors import UserError
from .model import inner_model, numbered
from .settings import type_name
from .strides import check_strides

__all__ = ['check_outputs']

DENSE = ('decode_head', 'rpn_head', 'roi_head', 'bbox_head', 'mask_head', 'panoptic_head')
"""What makes a model need maps."""


class Outputs(NamedTuple):
    """What a backbone gives.

    Attributes:
        widths: Channels of each output.
        are_maps: Whether they are (B, C, H, W), and not (B, C).
        own: Whether the backbone is one of mmv2m's, which have out_type and out_indices.
        strides: Pixels from one point of each output to the next; none if they are not known.
    """

    widths: list[int]
    are_maps: bool
    own: bool
    strides: tuple[int, ...] = ()


def check_outputs(cfg: Config) -> None:
    """Check the number, the kind, the channels and the strides of a backbone's outputs.

    Otherwise the first training step fails, in a convolution or a product of matrices. A backbone
    that cannot be made or run on shapes alone is left to the runner, and so is what follows a neck
    that is not known here.

    Args:
        cfg: The config, its model checked already.

    Raises:
        UserError: If the neck or a head expects something else.
    """
    model = inner_model(cfg)
    backbone = model.get('backbone')
    neck: Any = model.get('neck')
    neck = neck[0] if isinstance(neck, (list, tuple)) and neck else neck
    wants = list(_wanted(model, neck))
    if not isinstance(backbone, dict) or not (wants or neck):
        return
    given = _outputs(cfg, backbone)
    if given is None:
        return
    pooled = neck is not None and type_name(neck) == 'GlobalAveragePooling'
    if given.own and not given.are_maps and (pooled or any(key in model for key in DENSE)):
        what = f'model.neck ({type_name(neck)}) pools' if pooled else 'a dense model needs'
        also = ', or leave the neck out: neck=None' if pooled else ''
        indices = '' if pooled or len(given.widths) > 1 else ', out_indices=(0, 1, 2, 3)'
        raise UserError(
            f'model.backbone gives no maps, but {what} maps: '
            f"set out_type='featmap'{indices} in model.backbone{also}"
        )
    for where, wanted in wants:
        _compare(where, wanted, given)
    if given.strides:
        check_strides(model, neck, given.strides)


def _wanted(model: dict, neck: Any) -> Iterator[tuple[str, list[int] | dict[int, int]]]:
    """Channels that parts name: of all outputs in a list, or of single ones by their index."""
    channels: Any
    index: Any
    if neck is not None:
        channels = neck.get('in_channels')
        if _are_numbers(channels):
            backwards = type_name(neck) == 'YOLOV3Neck'  # it begins with the last output
            yield 'model.neck.in_channels', list(channels)[:: -1 if backwards else 1]
        if type_name(neck) == 'Feature2Pyramid' and isinstance(neck.get('embed_dim'), int):
            yield 'model.neck.embed_dim', dict.fromkeys(range(4), neck['embed_dim'])
        if type_name(neck) != 'GlobalAveragePooling':
            return
    head = model.get('head')
    if isinstance(head, dict) and isinstance(head.get('in_channels'), int):
        yield 'model.head.in_channels', {-1: head['in_channels']}
    for key in ('decode_head', 'auxiliary_head'):
        for place, head in numbered(model.get(key), f'model.{key}'):
            where = f'{place}.in_channels'
            channels, index = head.get('in_channels'), head.get('in_index', -1)
            if isinstance(channels, int) and isinstance(index, int):
                yield where, {index: channels}
            elif _are_numbers(channels) and _are_numbers(index) and len(channels) == len(index):
                yield where, dict(zip(index, channels, strict=True))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(x, int) for x in value)


def _outputs(cfg: Config, backbone: dict) -> Outputs | None:
    try:
        settings = dict(backbone, pretrained=False) if backbone.get('pretrained') else backbone
        model: Any = build_on_meta(cfg, part=settings)
        if hasattr(model, 'adapt_weights'):
            strides = tuple(model.strides[i] for i in model.out_indices)
            return Outputs(list(model.out_channels), model.out_type == 'featmap', True, strides)
        size = backbone.get('img_size', 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        channels = backbone.get('in_channels', backbone.get('in_chans', 3))
        with torch.no_grad():
            outs = model(torch.empty(1, channels, height, width, device='meta'))
    except Exception:
        return None
    outs = [outs] if isinstance(outs, Tensor) else outs
    if not isinstance(outs, Sequence) or not all(isinstance(out, Tensor) for out in outs):
        return None
    return Outputs([out.shape[1] for out in outs], all(out.dim() == 4 for out in outs), own=False)


def _compare(where: str, wanted: list[int] | dict[int, int], given: Outputs) -> None:
    widths = given.widths
    there = range(-len(widths), len(widths))
    if isinstance(wanted, list):
        fits, last_only, says = wanted == widths, False, str(wanted)
    else:
        fits = all(i in there and widths[i] == channels for i, channels in wanted.items())
        last_only = set(wanted) == {-1}
        channels = list(dict.fromkeys(wanted.values()))
        says = str(channels[0] if len(channels) == 1 else channels)
        says += ''.join(f' of output {i}' for i in wanted if i not in there and len(wanted) == 1)
    if fits:
        return
    gives = f'{widths[-1]} channels' if last_only else f'outputs of {widths} channels'
    few = given.own and len(widths) == 1 and not last_only
    hint = '; for four outputs, set out_indices=(0, 1, 2, 3) in model.backbone' if few else ''
    raise UserError(f'{where} is {says}, but the backbone gives {gives}{hint}')
