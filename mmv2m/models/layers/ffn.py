"""mmcv's MLP, which keeps half as much of its hidden layer for the backward pass."""

import inspect
from typing import Any

from mmcv.cnn import Linear
from mmcv.cnn.bricks.transformer import FFN as MMCVFFN
from mmengine.model import Sequential
from torch import Tensor, nn

from mmv2m.ops import mlp

from .runs_as import runs_as

__all__ = ['FFN']

LINEAR = (nn.Linear, Linear)
"""Layers that compute what an operator may compute in their place."""


class FFN(MMCVFFN):
    """:class:`mmcv.cnn.bricks.transformer.FFN` on :func:`mmv2m.ops.mlp`.

    State dict and results are mmcv's. The operator takes the place of all layers where the MLP has
    two linear ones without hooks, GELU between them and no dropout that is active; any other MLP
    runs as mmcv's.

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
        if not self._are_one_operator():
            return super().forward(x)
        (first, *_), linear, _ = self
        parameters = (first.weight, first.bias, linear.weight, linear.bias)
        return mlp(x, *parameters, self.backend)

    def _are_one_operator(self) -> bool:
        """Whether they are what the operator computes.

        Asked in every pass: modes change, adapters such as LoRA's replace linear layers, and
        pruning hooks into them.
        """
        if len(self) != 3:
            return False
        (first, act, inner_drop), linear, drop = self
        return (
            runs_as(act, nn.GELU)
            and act.approximate == 'none'
            and all(runs_as(layer, *LINEAR) for layer in (first, linear))
            and not any(d.training and d.p for d in (inner_drop, drop))
        )
