"""The dtype of states, and ways to respect or disable a surrounding autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = [
    'has_autocast',
    'like_products',
    'products_like',
    'state_dtype',
    'without_autocast',
]


def state_dtype(x: Tensor) -> torch.dtype:
    """The dtype of states and sums: float32, or float64 if ``x`` is float64."""
    # torch.promote_types would count as an operation when operations are recorded.
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def has_autocast(x: Tensor) -> bool:
    """Whether there is an autocast on the device of ``x``.

    The meta device has none, and PyTorch raises an error if it is asked about it.
    """
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Keep a surrounding autocast from changing dtypes on the device of ``x``."""
    return torch.autocast(x.device.type, enabled=False) if has_autocast(x) else nullcontext()


def like_products(x: Tensor) -> Tensor:
    """Cast ``x`` to the dtype of products under a surrounding autocast, if there is one.

    Like autocast, it leaves float64 as it is.
    """
    if not has_autocast(x) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def products_like(x: Tensor) -> AbstractContextManager:
    """Keep matrix products of tensors in the dtype of ``x`` in that dtype.

    This is :func:`without_autocast`, except if autocast has the same dtype. Then no context is
    entered, because that takes longer than the launch of a product.
    """
    kind = x.device.type
    if not x.is_meta and torch.get_autocast_dtype(kind) == x.dtype:
        return nullcontext()
    return without_autocast(x)
