"""The influence of all tokens on one token, through the 2D scan from each corner."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmv2m.models import SS2D, V2M
from mmv2m.models.layers.corner_ssm import CornerSSM
from mmv2m.models.layers.coupled_ssm import CoupledSSM
from mmv2m.ops import CORNERS

__all__ = ['CornerView', 'corner_views']


class CornerView(NamedTuple):
    """The influence of all tokens on one token through one corner's scan.

    Attributes:
        corner: ``'UL'``, ``'LR'``, ``'UR'`` or ``'LL'``.
        first: Direction of the first scan.
        second: Direction of the second scan.
        weight: (h, w), float32, the influence of each token of the map on this corner's output at
            the one token. The largest value is 1.
    """

    corner: str
    first: str
    second: str
    weight: np.ndarray


def corner_views(
    model: V2M, images: Tensor, layer: str | None = None, token: tuple[int, int] | None = None
) -> list[CornerView]:
    """Compute the influence of all tokens on one token through each corner's scan in a block.

    The influence of a token is the norm of a gradient with respect to the token's D channels in
    front of the mixer. The gradient is that of the norm of the corner's output at ``token``. It
    depends on the image, since time steps and projections do.

    Args:
        model: A V2M in eval mode.
        images: (1, C, H, W), preprocessed.
        layer: Name of a block's mixer, such as ``'stages.3.5.mixer'``. Defaults to the last one.
        token: Row and column in the map. An additional row and column of class tokens count too.
            Defaults to the middle, where the class token stands.

    Returns:
        A view for each corner from which the block scans the whole map, instead of windows.

    Raises:
        TypeError: If the model is no V2M.
        ValueError: If there is no such mixer or token, or the mixer has the released geometry or
            scans only inside windows.
    """
    if not isinstance(model, V2M):
        raise TypeError(f'corners are those of a V2M, but the backbone is a {type(model).__name__}')
    mixers = {name: m for name, m in model.named_modules() if isinstance(m, SS2D)}
    layer = layer or list(mixers)[-1]
    if layer not in mixers:
        raise ValueError(f'the backbone has no mixer {layer!r}; there is {list(mixers)[-1]!r}')
    mixer: Any = mixers[layer]
    kinds = (CornerSSM, CoupledSSM)
    whole = [ssm for ssm in mixer.ssm.values() if isinstance(ssm, kinds) and not ssm.corners.window]
    if mixer.geometry != 'paper' or not whole:
        raise ValueError(f'{layer} has the released geometry, or scans inside windows only')
    tokens = _input_of(model, mixer, images)
    row, column = token or (tokens.shape[1] // 2, tokens.shape[2] // 2)
    if not (0 <= row < tokens.shape[1] and 0 <= column < tokens.shape[2]):
        size = f'{tokens.shape[1]} x {tokens.shape[2]}'
        raise ValueError(f'the map has {size} tokens, none at {row}, {column}')
    names = {(corner.first, corner.second): name for name, corner in CORNERS.items()}
    views = []
    for ssm in whole:
        with torch.enable_grad():
            x, z = mixer.in_proj(tokens), None
            if mixer.gated:
                x, z = x.chunk(2, dim=-1)
            outputs = ssm(x, z, reduction='none')
        for (first, second, _), y in zip(ssm.corners.corners, outputs, strict=True):
            name = names.get((first, second)) or f'{names[second, first]}, swapped'
            weight = _gradient(y[0, row, column].norm(), tokens)
            views.append(CornerView(name, first.name, second.name, weight))
    return views


def _input_of(model: V2M, mixer: SS2D, images: Tensor) -> Tensor:
    """The map in front of a mixer, (1, h, w, D), as a leaf of autograd."""
    kept = []
    handle = mixer.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    try:
        with torch.no_grad():
            model(images)
    finally:
        handle.remove()
    tokens: Tensor = kept[0].detach().clone().requires_grad_()
    return tokens


def _gradient(value: Tensor, tokens: Tensor) -> np.ndarray:
    (gradient,) = torch.autograd.grad(value, tokens, retain_graph=True)
    weight = gradient[0].norm(dim=-1).float()
    return (weight / weight.max().clamp_min(torch.finfo(torch.float32).tiny)).cpu().numpy()
