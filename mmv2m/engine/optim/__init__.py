"""Optimizers and moving averages that cost the host little; registered on import."""

from .grouped import GroupedOptimWrapperConstructor
from .layer_decay import LayerDecayOptimWrapperConstructor
from .moving_average import ForeachExponentialMovingAverage

__all__ = [
    'ForeachExponentialMovingAverage',
    'GroupedOptimWrapperConstructor',
    'LayerDecayOptimWrapperConstructor',
]
