"""Argument checks of the public operators. Each message says what is wrong and what is expected."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    'MapLike',
    'check_channels',
    'check_floating',
    'check_like',
    'check_map',
    'check_parameter',
    'check_parameters',
    'check_projection',
    'check_same_map',
    'check_taps',
    'check_weight',
]


class MapLike(NamedTuple):
    """The properties of a map that does not exist yet, for checks of the parameters beside it.

    Attributes:
        shape: (..., E).
        dtype: Dtype of the map.
        device: Device of the map.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def check_floating(name: str, value: Tensor) -> None:
    """Check that ``value`` is a real floating-point tensor with at least 16 bits per number.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f'{name} must be a tensor, but is {type(value).__name__}')
    if not value.dtype.is_floating_point:
        raise TypeError(f'{name} must be real floating point, but is {value.dtype}')
    if value.dtype.itemsize < 2:
        raise TypeError(f'{name} must have at least 16 bits per number, but is {value.dtype}')


def check_taps(name: str, weight: Tensor) -> None:
    """Check that a convolution's weight has the axes whose sizes are read, and at least one tap.

    Without a tap, kernels would write a gradient outside of its memory.

    Raises:
        TypeError: If it is no tensor of real floating-point numbers.
        ValueError: If it has other axes or no tap.
    """
    check_floating(name, weight)
    if weight.dim() not in (2, 3) or weight.shape[-1] == 0:
        raise ValueError(
            f'{name} must be (E, taps) or (E, 1, taps) with at least one tap, but has shape '
            f'{tuple(weight.shape)}'
        )


def check_channels(name: str, x: Tensor) -> None:
    """Check that ``x`` is a real floating-point (..., E) tensor.

    Raises:
        TypeError: If it is no tensor or not real floating point.
        ValueError: If it has no axes.
    """
    check_floating(name, x)
    if not x.dim():
        raise ValueError(f'{name} must have an axis of channels, but is a single number')


def check_map(name: str, x: Tensor) -> None:
    """Check that ``x`` is a real floating-point (B, H, W, E) map.

    Raises:
        TypeError: If it is no tensor or not real floating point.
        ValueError: If it does not have four axes.
    """
    check_floating(name, x)
    if x.dim() != 4:
        raise ValueError(f'{name} must be a (B, H, W, E) map, but has shape {tuple(x.shape)}')


def check_like(name: str, value: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    """Check that a tensor has the given shape, and the dtype and device of ``x``.

    Raises:
        TypeError: If it is no tensor, or its dtype differs from that of ``x``.
        ValueError: If its shape or device is wrong.
    """
    check_floating(name, value)
    _check_shape(name, value, shape, f'of x with shape {tuple(x.shape)}')
    _check_alike(name, value, x)


def check_same_map(name: str, value: Tensor | None, x: Tensor) -> None:
    """Check that an optional map has the shape, dtype and device of ``x``.

    Raises:
        TypeError: If it is no tensor, or its dtype differs from that of ``x``.
        ValueError: If its shape or device differs.
    """
    if value is None:
        return
    check_floating(name, value)
    _check_shape(name, value, tuple(x.shape), "x's shape")
    _check_alike(name, value, x)


def check_parameter(
    name: str, value: Tensor | None, shape: tuple[int, ...], x: Tensor | MapLike
) -> None:
    """Check that an optional parameter is real, of the given shape and on the device of ``x``.

    Raises:
        TypeError: If it is no tensor or not real floating point.
        ValueError: If its shape or device is wrong.
    """
    check_parameters(((name, value, shape),), x)


def check_parameters(
    parameters: Iterable[tuple[str, Tensor | None, tuple[int, ...]]], x: Tensor | MapLike
) -> None:
    """Check several parameters as :func:`check_parameter` does.

    Args:
        parameters: Name, value and expected shape of each parameter.
        x: The map beside them.

    Raises:
        TypeError: If a parameter is no tensor or not real floating point.
        ValueError: If a shape or a device is wrong.
    """
    device = x.device
    for name, value, shape in parameters:
        # A model's step has hundreds of parameters, most of which pass this short test.
        if value is None or (
            isinstance(value, Tensor)
            and value.dtype is torch.float32
            and value.shape == shape
            and value.device == device
        ):
            continue
        check_floating(name, value)
        _check_shape(name, value, shape, f'x with {x.shape[-1]} channels')
        _check_device(name, value, x)


def check_weight(weight: Tensor, x: Tensor | MapLike, name: str = 'weight') -> None:
    """Check that the weight of a linear layer is (D, E) with the E channels of ``x``.

    Raises:
        TypeError: If it is not real floating point.
        ValueError: If it is no tensor, or its shape or device is wrong.
    """
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise ValueError(
            f'{name} must be a (D, E) tensor, but is {getattr(weight, "shape", weight)}'
        )
    check_parameter(name, weight, (weight.shape[0], x.shape[-1]), x)


def check_projection(name: str, value: Tensor | None, states: int, x: Tensor) -> None:
    """Check an input or output projection: None, constant (E, N) or per token (B, H, W, N).

    Raises:
        TypeError: If it is no tensor, or its dtype is wrong.
        ValueError: If its shape or device is wrong.
    """
    if value is None:
        return
    check_floating(name, value)
    constant, per_token = (x.shape[-1], states), (*x.shape[:3], states)
    # The numbers of axes come first, because an export that compared the batch with E would rule
    # out batches of E images.
    if value.dim() == 2 and value.shape == constant:
        _check_device(name, value, x)
    elif value.dim() == 4 and value.shape == per_token:
        _check_alike(name, value, x)
    else:
        raise ValueError(
            f'{name} must be None, (E, N) = {constant} or (B, H, W, N) = {per_token}, '
            f'but has shape {tuple(value.shape)}'
        )


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...], reason: str) -> None:
    if value.shape != torch.Size(shape):
        raise ValueError(f'{name} must have shape {shape} ({reason}), not {tuple(value.shape)}')


def _check_device(name: str, value: Tensor, x: Tensor | MapLike) -> None:
    if value.device != x.device:
        raise ValueError(f'{name} is on {value.device} but x is on {x.device}; move one of them')


def _check_alike(name: str, value: Tensor, x: Tensor) -> None:
    _check_device(name, value, x)
    if value.dtype != x.dtype:
        raise TypeError(f'{name} is {value.dtype} but x is {x.dtype}; cast one of them')
