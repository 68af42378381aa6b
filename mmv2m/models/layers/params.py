"""Which dtype a module works in."""

import torch
from torch import nn

__all__ = ['dtype_of']


def dtype_of(*modules: nn.Module, default: torch.dtype) -> torch.dtype:
    """The dtype of the first floating-point parameter of some modules.

    Args:
        *modules: Asked in turn. A quantised layer or a norm without weights has no parameters.
        default: The answer if none of them has any.
    """
    for module in modules:
        for parameter in module.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return default
