"""Hooks and optimizers, registered on import, and the code behind the command-line tools."""

from .hooks import (
    CUDAGraphHook,
    CurvePlotHook,
    DeferredRuntimeInfoHook,
    PredictionSheetHook,
    RandomStateHook,
    ResultRecordHook,
    ResumeGroupsHook,
    SafeCheckpointHook,
    StopAtInvalidLossHook,
)
from .optim import (
    ForeachExponentialMovingAverage,
    GroupedOptimWrapperConstructor,
    LayerDecayOptimWrapperConstructor,
)

__all__ = [
    'CUDAGraphHook',
    'CurvePlotHook',
    'DeferredRuntimeInfoHook',
    'ForeachExponentialMovingAverage',
    'GroupedOptimWrapperConstructor',
    'LayerDecayOptimWrapperConstructor',
    'PredictionSheetHook',
    'RandomStateHook',
    'ResultRecordHook',
    'ResumeGroupsHook',
    'SafeCheckpointHook',
    'StopAtInvalidLossHook',
]
