"""What the analysis and conversion tools are made of."""

from .complexity import Complexity, measure_complexity
from .released_weights import convert_released_weights

__all__ = ['Complexity', 'convert_released_weights', 'measure_complexity']
