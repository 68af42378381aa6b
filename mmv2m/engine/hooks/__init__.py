"""Hooks, registered on import."""

from .cuda_graph import CUDAGraphHook
from .curve_plot import CurvePlotHook
from .deferred_scalars import DeferredRuntimeInfoHook
from .invalid_loss import StopAtInvalidLossHook
from .monitors import MonitorHook
from .prediction_sheet import PredictionSheetHook
from .random_state import RandomStateHook
from .result_record import ResultRecordHook
from .resume_groups import ResumeGroupsHook
from .safe_checkpoint import SafeCheckpointHook

__all__ = [
    'CUDAGraphHook',
    'CurvePlotHook',
    'DeferredRuntimeInfoHook',
    'MonitorHook',
    'PredictionSheetHook',
    'RandomStateHook',
    'ResultRecordHook',
    'ResumeGroupsHook',
    'SafeCheckpointHook',
    'StopAtInvalidLossHook',
]
