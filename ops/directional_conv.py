"""The causal convolution that precedes every scan."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .backend_operator import backend_operator
from .backends import choose_backend, has
from .checks import check_floating, check_parameter
from .directions import Direction, get_direction, read_directions, write_directions
from .operator import (
    differentiate_again,
    like_x,
)
from .precision import state_dtype, without_autocast
from .reference import directional_conv_reference

__all__ = ['directional_conv']


def directional_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    direction: str | Direction | Sequence[str | Direction] = 'right',
    backend: str = 'auto',
) -> Tensor:
    r"""Apply a causal depthwise convolution along one axis of a channels-last map, then SiLU.

    For step ``t`` of the walk along a row or column and channel ``e``

    .. math::
        y_t[e] = \mathrm{SiLU}\Big(bias[e] + \sum_{k=0}^{T-1} weight[e, T-1-k]\, x_{t-k}[e]\Big)

    where ``x`` is zero before the first step. This is Mamba's short convolution, in any direction,
    or in several directions that share the parameters.

    Args:
        x: Input map, (B, H, W, E), in float16, bfloat16, float32 or float64. With a sequence of K
            directions, it may also be (K, B, H, W, E), with one map per direction.
        weight: (E, T). The last tap reads the token itself.
        bias: (E,), or None.
        direction: A direction, or its name: ``'right' | 'left' | 'down' | 'up'``. It may also be a
            sequence of K of them.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (B, H, W, E) for one direction, or (K, B, H, W, E) for a sequence, even of a single one. It
        is contiguous and in the dtype of ``x``.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, a direction or the backend's name is wrong, the sequence
            of directions is empty, or there are several maps, but not one per direction.
        RuntimeError: If the backend asked for cannot run. The message says why.
    """
    names = _check_directions(x, direction)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or weight.shape[-1] == 0:
        raise ValueError(
            f'weight must be an (E, T) tensor, but is {getattr(weight, "shape", weight)}'
        )
    check_parameter('weight', weight, (x.shape[-1], weight.shape[-1]), x)
    check_parameter('bias', bias, (x.shape[-1],), x)
    backend = choose_backend(backend, x)

    dtype = state_dtype(x)
    weight = weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    if isinstance(direction, (str, Direction)):
        return _conv(x, weight, bias, *names, backend)
    if has(backend, 'convs_forward'):
        return _convs(x, weight, bias, write_directions(names), backend)
    maps = x if x.dim() == 5 else [x] * len(names)
    pairs = zip(maps, names, strict=True)
    # Under autocast, torch.stack refuses maps of the other half precision.
    with without_autocast(x):
        return torch.stack([_conv(one, weight, bias, name, backend) for one, name in pairs])


def _check_directions(
    x: Tensor, direction: str | Direction | Sequence[str | Direction]
) -> list[str]:
    """Check directions and the axes of ``x``, and return the names of the directions.

    Raises:
        TypeError: If ``x`` is no tensor or not real floating point.
        ValueError: If there is no direction, one is unknown, or ``x`` is neither one map nor one
            map per direction.
    """
    check_floating('x', x)
    single = isinstance(direction, (str, Direction))
    directions: Any = [direction] if single else direction
    if not isinstance(directions, Sequence) or not directions:
        raise ValueError(f'direction must be one, or a sequence of some, but got {direction!r}')
    names = [get_direction(one).name for one in directions]
    if x.dim() != 4 and (single or x.dim() != 5 or x.shape[0] != len(names)):
        raise ValueError(
            'x must be a (B, H, W, E) map, or with a sequence of K directions (K, B, H, W, E), but '
            f'has shape {tuple(x.shape)}, and direction is {direction!r}'
        )
    return names


_conv, _conv_backward = backend_operator('directional_conv', 'conv', like_x)
differentiate_again(_conv_backward, directional_conv_reference)


def _one_map_a_direction(x: Tensor, weight: Tensor, bias: Any, directions: str, *_: Any) -> Tensor:
    shape = (len(read_directions(directions)), *x.shape[-4:])
    return torch.empty(shape, dtype=x.dtype, device=x.device)


_convs, _ = backend_operator('directional_convs', 'convs', _one_map_a_direction)
