"""What runs a config: hooks, optimizers, and the code behind the command-line tools."""

from .hooks import (
    CUDAGraphHook,
    CurvePlotHook,
    DeferredRuntimeInfoHook,
    PredictionSheetHook,
    ResultRecordHook,
)
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'CUDAGraphHook',
    'CurvePlotHook',
    'DeferredRuntimeInfoHook',
    'LayerDecayOptimWrapperConstructor',
    'PredictionSheetHook',
    'ResultRecordHook',
]
