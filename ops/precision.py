"""Keeping a surrounding autocast out."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ['products_like', 'without_autocast']


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Keep a surrounding autocast from changing dtypes on the device of ``x``.

    There is none for the meta device, whose tensors have shapes only; PyTorch refuses to ask.
    """
    kind = x.device.type
    if x.is_meta or not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def products_like(x: Tensor) -> AbstractContextManager:
    """Have matrix products of tensors in the dtype of ``x`` stay in it.

    That is :func:`without_autocast`, but for an autocast that would do the same: entering a context
    takes longer than a product's launch.
    """
    kind = x.device.type
    if not x.is_meta and torch.get_autocast_dtype(kind) == x.dtype:
        return nullcontext()
    return without_autocast(x)
