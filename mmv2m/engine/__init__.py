"""What runs a config: hooks, optimizers, and the code behind the command-line tools."""

from .hooks import CurvePlotHook, PredictionSheetHook, ResultRecordHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = [
    'CurvePlotHook',
    'LayerDecayOptimWrapperConstructor',
    'PredictionSheetHook',
    'ResultRecordHook',
]
