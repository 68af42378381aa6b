"""The causal convolution that precedes every scan."""

from typing import Any

from torch import Tensor

from .backends import BACKENDS, choose_backend
from .checks import check_map, check_parameter
from .directions import Direction, get_direction
from .operator import (
    differentiate_again,
    differentiate_from_inputs,
    like_inputs,
    like_x,
    operator,
    present,
)
from .precision import state_dtype
from .reference import directional_conv_reference

__all__ = ['directional_conv']


def directional_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    direction: str | Direction = 'right',
    backend: str = 'auto',
) -> Tensor:
    r"""Causal depthwise convolution along one axis of a channels-last map, then SiLU.

    For step ``t`` of the walk along a row or column and channel ``e``

    .. math::
        y_t[e] = \mathrm{SiLU}\Big(bias[e] + \sum_{k=0}^{K-1} weight[e, K-1-k]\, x_{t-k}[e]\Big)

    with zeros before the first step: Mamba's short convolution, in any direction.

    Args:
        x: Input map, (B, H, W, E); float16, bfloat16, float32 or float64.
        weight: (E, K); its last tap sees the token itself.
        bias: (E,).
        direction: A direction, or its name: ``'right' | 'left' | 'down' | 'up'``.
        backend: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.

    Returns:
        (B, H, W, E) in the dtype of ``x``, contiguous.

    Raises:
        TypeError: If an argument has a wrong type or dtype.
        ValueError: If a shape, a device, the direction or the backend's name is wrong.
        RuntimeError: If the backend asked for cannot run; says why.
    """
    check_map('x', x)
    if not isinstance(weight, Tensor) or weight.dim() != 2 or weight.shape[-1] == 0:
        raise ValueError(
            f'weight must be an (E, K) tensor, but is {getattr(weight, "shape", weight)}'
        )
    check_parameter('weight', weight, (x.shape[-1], weight.shape[-1]), x)
    check_parameter('bias', bias, (x.shape[-1],), x)
    way = get_direction(direction).name
    backend = choose_backend(backend, x)

    dtype = state_dtype(x)
    weight = weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    return _conv(x, weight, bias, way, backend)


@operator('directional_conv', like_x)
def _conv(*args: Any) -> Tensor:
    *inputs, backend = args
    return BACKENDS[backend].conv_forward(*inputs).contiguous()


@operator('directional_conv_backward', like_inputs)
def _conv_backward(grad_y: Tensor, *args: Any) -> list[Tensor]:
    *inputs, backend = args
    return present(BACKENDS[backend].conv_backward(grad_y, *inputs))


differentiate_from_inputs(_conv, _conv_backward)
differentiate_again(_conv_backward, directional_conv_reference)
