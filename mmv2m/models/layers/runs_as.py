"""Whether an operator may take a module's place in a forward pass."""

from torch import nn

__all__ = ['runs_as']


def runs_as(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module computes what one of some classes does, and nobody watches or changes it.

    A subclass may compute something else: adapters such as LoRA's and parametrizations are such.
    Pruning and spectral norms set weights in hooks in front of the forward pass.

    Args:
        module: The module.
        kinds: Classes; subclasses of them do not count.
    """
    return type(module) in kinds and not module._forward_hooks and not module._forward_pre_hooks
