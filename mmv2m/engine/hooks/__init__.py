"""Hooks, registered on import."""

from .curve_plot import CurvePlotHook
from .prediction_sheet import PredictionSheetHook

__all__ = ['CurvePlotHook', 'PredictionSheetHook']
