"""Hooks, registered on import."""

from .curve_plot import CurvePlotHook
from .prediction_sheet import PredictionSheetHook
from .result_record import ResultRecordHook
from .resume_groups import ResumeGroupsHook

__all__ = ['CurvePlotHook', 'PredictionSheetHook', 'ResultRecordHook', 'ResumeGroupsHook']
