"""mmcv's MLP, which keeps half as much of its hidden layer for the backward pass."""

import inspect
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import Linear
from mmcv.cnn.bricks.transformer import FFN as MMCVFFN
from mmengine.model import Sequential
from torch import Tensor, nn

from mmv2m.ops import gelu_linear

__all__ = ['FFN']

LINEAR = (nn.Linear, Linear)
"""Layers that compute what an operator may compute in their place."""


class FFN(MMCVFFN):
    """:class:`mmcv.cnn.bricks.transformer.FFN` on :func:`mmv2m.ops.gelu_linear`.

    State dict and results are mmcv's. The operator takes the place of GELU and the second linear
    layer, and of the first one's bias, where the MLP has two layers and no dropout between them
    that is active; any other MLP runs as mmcv's. Hooks on the three modules are not called.

    Args:
        args: Arguments of mmcv's FFN.
        backend: Of the operator: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        kwargs: Likewise.
    """

    layers: Sequential

    # Without the check for an argument's former name, which inspects the signature in every call.
    forward = inspect.unwrap(MMCVFFN.forward)

    def __init__(self, *args: Any, backend: str = 'auto', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.layers = _Layers(*self.layers, backend=backend)


class _Layers(Sequential):
    """The layers of an FFN: ``(linear, activation, dropout)`` once or more, linear, dropout."""

    def __init__(self, *layers: nn.Module, backend: str = 'auto') -> None:
        super().__init__(*layers)
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        if not self._end_in_gelu_linear():
            return super().forward(x)
        (first, *_), linear, _ = self
        bias = None
        if type(first) in LINEAR:
            x, bias = F.linear(x, first.weight), first.bias
        else:
            x = first(x)
        return gelu_linear(x, linear.weight, linear.bias, bias, self.backend)

    def _end_in_gelu_linear(self) -> bool:
        """Whether all behind the first linear layer is what the operator computes.

        Asked in every pass: modes change, and adapters such as LoRA's replace linear layers.
        """
        if len(self) != 3:
            return False
        (_, act, inner_drop), linear, drop = self
        return (
            type(act) is nn.GELU
            and act.approximate == 'none'
            and type(linear) in LINEAR
            and not any(d.training and d.p for d in (inner_drop, drop))
        )
