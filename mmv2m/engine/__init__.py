"""What runs a config: hooks, optimizers, and the code behind the command-line tools."""

from .hooks import CurvePlotHook, PredictionSheetHook, ResultRecordHook, ResumeGroupsHook
from .optim import (
    ForeachExponentialMovingAverage,
    GroupedOptimWrapperConstructor,
    LayerDecayOptimWrapperConstructor,
)

__all__ = [
    'CurvePlotHook',
    'ForeachExponentialMovingAverage',
    'GroupedOptimWrapperConstructor',
    'LayerDecayOptimWrapperConstructor',
    'PredictionSheetHook',
    'ResultRecordHook',
    'ResumeGroupsHook',
]
