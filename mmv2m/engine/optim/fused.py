"""The choice of a fused kernel for an optimizer's step."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW

__all__ = ['use_fused']

FUSED_ON_GPU = (Adam, AdamW, SGD)
"""Optimizers of PyTorch with a fused step on a GPU. A subclass may have another step."""


def use_fused(
    optimizer: Mapping[str, Any], optimizer_class: type, parameters: Iterable[Tensor]
) -> dict[str, Any]:
    """Set ``fused=True`` in an optimizer's config, where that works and the user left it open.

    Args:
        optimizer: The config. It stays as it is if it names ``fused`` or ``foreach``, or sets
            ``differentiable``.
        optimizer_class: The class that the config stands for.
        parameters: The trained parameters. ``fused`` is set only if all of them are floating-point
            tensors on a GPU.

    Returns:
        A copy of the config.
    """
    settings = dict(optimizer)
    if optimizer_class not in FUSED_ON_GPU or settings.get('differentiable'):
        return settings
    if 'fused' in settings or 'foreach' in settings:
        return settings
    kinds = {parameter.is_cuda and parameter.is_floating_point() for parameter in parameters}
    return dict(settings, fused=True) if kinds == {True} else settings
