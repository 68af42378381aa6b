"""What runs a config: hooks, and the code behind the command-line tools."""

from .hooks import CurvePlotHook, PredictionSheetHook

__all__ = ['CurvePlotHook', 'PredictionSheetHook']
