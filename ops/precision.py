"""Keeping a surrounding autocast out."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ['without_autocast']


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Keep a surrounding autocast from changing dtypes on the device of ``x``.

    There is none for the meta device, whose tensors have shapes only; PyTorch refuses to ask.
    """
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
