"""Dtypes of modules, and of tensors that need at least float32."""

import torch
from torch import Tensor, nn

__all__ = ['dtype_of', 'widen']


def widen(x: Tensor) -> Tensor:
    """Cast to at least float32, as the residual stream and the rates of states need it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def dtype_of(*modules: nn.Module, default: torch.dtype) -> torch.dtype:
    """The dtype of the first floating-point parameter of some modules.

    Args:
        *modules: The modules, in the order in which they are asked. A quantised layer or a norm
            without weights has no such parameters.
        default: The answer if none of them has such a parameter.
    """
    for module in modules:
        for parameter in module.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return default
