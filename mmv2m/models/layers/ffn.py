"""mmcv's MLP on an operator that keeps half as much of the hidden layer for the backward pass."""

import inspect
from typing import Any

from mmcv.cnn import Linear
from mmcv.cnn.bricks.transformer import FFN as MMCVFFN
from mmengine.model import Sequential
from torch import Tensor, nn

from mmv2m.ops import mlp

from .door import GELU, Known, may_stand_for, unchanged

__all__ = ['FFN', 'FFN_WITHOUT_SUM']

EITHER_LINEAR = Known(unchanged(nn.Linear, Linear), (('weight', True), ('bias', None)))
DROPOUT = Known(unchanged(nn.Dropout))
FIRST = Known(unchanged(Sequential), parts=(('0', EITHER_LINEAR), ('1', GELU), ('2', DROPOUT)))


class FFN(MMCVFFN):
    """:class:`mmcv.cnn.bricks.transformer.FFN` on :func:`mmv2m.ops.mlp`.

    State dict and results are the same as mmcv's. The operator stands for all layers if the MLP has
    two linear layers, GELU between them and no active dropout, and :func:`.door.may_stand_for`
    allows it. Any other MLP runs as mmcv's.

    Args:
        args: Positional arguments of mmcv's FFN.
        backend: Backend of the operator: ``'auto'`` or a key of :data:`mmv2m.ops.BACKENDS`.
        kwargs: Keyword arguments of mmcv's FFN.
    """

    layers: Sequential

    # mmcv's decorator checks for an argument's former name, and inspects the signature in every
    # call for that.
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
        if not self._are_one_operator(x):
            return super().forward(x)
        (first, *_), linear, _ = self._modules.values()
        parameters = (first.weight, first.bias, linear.weight, linear.bias)
        return mlp(x, *parameters, self.backend)

    def _are_one_operator(self, x: Tensor) -> bool:
        """Whether the operator computes these layers, which depends on the mode of the dropout."""
        if len(self._modules) != 3 or not may_stand_for(self, x, ((self, LAYERS),)):
            return False
        first, _, drop = self._modules.values()
        inner = first._modules['2']
        return not (inner.training and inner.p or drop.training and drop.p)


LAYERS = Known(unchanged(_Layers), parts=(('0', FIRST), ('1', EITHER_LINEAR), ('2', DROPOUT)))

FFN_WITHOUT_SUM = Known(unchanged(FFN), settings=(('add_identity', False),))
