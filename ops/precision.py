"""The dtype of states, and whether there is a surrounding autocast, and keeping it out."""

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
    """The dtype of states and sums: float32, or float64 where ``x`` is float64."""
    # Not torch.promote_types, which is an operation to whoever records an operator's.
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def has_autocast(x: Tensor) -> bool:
    """Whether there is an autocast on the device of ``x``.

    There is none for the meta device, whose tensors have shapes only; PyTorch refuses to ask.
    """
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Keep a surrounding autocast from changing dtypes on the device of ``x``."""
    return torch.autocast(x.device.type, enabled=False) if has_autocast(x) else nullcontext()


def like_products(x: Tensor) -> Tensor:
    """``x`` in the dtype that a surrounding autocast, if there is one, takes products in.

    Autocast leaves float64 as it is.
    """
    if not has_autocast(x) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def products_like(x: Tensor) -> AbstractContextManager:
    """Have matrix products of tensors in the dtype of ``x`` stay in it.

    That is :func:`without_autocast`, but for an autocast that would do the same: entering a context
    takes longer than a product's launch.
    """
    kind = x.device.type
    if not x.is_meta and torch.get_autocast_dtype(kind) == x.dtype:
        return nullcontext()
    return without_autocast(x)
