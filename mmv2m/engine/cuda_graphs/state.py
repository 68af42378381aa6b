"""The state of a module on which its CUDA graph depends, apart from numbers in tensors."""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

__all__ = ['State', 'obstacle']

HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
GLOBAL_HOOKS = tuple(f'_global{name}' for name in HOOKS)
CONTENTS = ('_modules', '_parameters', '_buffers')


class State:
    """The state of a module, and of a call of it.

    It covers the submodules with their classes, ``forward`` methods, attributes and hooks, the
    memory, dtypes and ``requires_grad`` of parameters and buffers, the layout of the input, and
    PyTorch's global settings. An attribute that is changed in place, such as an element of a list,
    is not seen.

    Args:
        root: The module. Its own hooks run outside of its forward pass and do not count.
        x: The module's input.
    """

    def __init__(self, root: nn.Module, x: Tensor) -> None:
        self.call = _call_state(x)
        self.modules = list(root.modules())
        self.kinds = list(set(map(type, self.modules)))
        # Every training step compares these lists, so that the slow part is done once, here.
        dicts = [module.__dict__ for module in self.modules]
        dicts += [values[name] for values in list(dicts) for name in CONTENTS]
        self.filled, self.empty = [d for d in dicts if d], [d for d in dicts if not d]
        self.hooks = [module.__dict__[name] for module in self.modules[1:] for name in HOOKS]
        self.tensors = [*root.parameters(), *root.buffers()]
        self.module = self._module_state()

    def holds(self, x: Tensor) -> bool:
        """Whether the module, and another call of it, are still like this."""
        return self.call == _call_state(x) and self.module_holds()

    def module_holds(self) -> bool:
        """Whether the module is still like this."""
        try:
            return self.module == self._module_state()
        except (RuntimeError, TypeError, ValueError):  # attributes that cannot be compared
            return False

    def _module_state(self) -> list[Any]:
        return [
            list(map(type, self.modules)),
            list(map(attrgetter('forward'), self.kinds)),
            list(map(tuple, map(dict.values, self.filled))),
            any(self.empty),
            any(self.hooks),
            list(map(attrgetter('requires_grad', 'dtype'), self.tensors)),
            list(map(Tensor.data_ptr, self.tensors)),
        ]


def _call_state(x: Tensor) -> list[Any]:
    return [
        (x.shape, x.stride(), x.dtype, x.device, x.requires_grad),
        torch.is_autocast_enabled('cuda') and torch.get_autocast_dtype('cuda'),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        [len(getattr(torch_module, name)) for name in GLOBAL_HOOKS],
    ]


def obstacle(root: nn.Module, x: Tensor) -> str | None:
    """The reason why a module cannot be captured, in words, or None.

    Args:
        root: The module. Its own hooks run outside of its forward pass and do not count.
        x: The module's input.
    """
    if not x.requires_grad and not any(p.requires_grad for p in root.parameters()):
        return 'nothing in it is trained'
    for name in GLOBAL_HOOKS:
        if getattr(torch_module, name):
            return 'there is a hook on all modules'
    for name, module in root.named_modules():
        if module is not root and any(getattr(module, hooks) for hooks in HOOKS):
            return f'there is a hook on {name}, which a graph would not call'
        if isinstance(module, nn.SyncBatchNorm):
            return f'{name} is a SyncBatchNorm, which talks to the other processes'
    for name, parameter in root.named_parameters():
        if type(parameter) is not nn.Parameter:
            return f'{name} is a {type(parameter).__name__}, not a plain parameter'
    for name, buffer in root.named_buffers():
        if buffer.requires_grad:
            return f'the buffer {name} asks for a gradient'
    return None
