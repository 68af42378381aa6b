"""Code behind the analysis and conversion tools, and the reading of checkpoints."""

from .complexity import Complexity, measure_complexity
from .official_weights import CONVERTERS, convert_official_checkpoint
from .released_weights import convert_released_weights

__all__ = [
    'CONVERTERS',
    'Complexity',
    'convert_official_checkpoint',
    'convert_released_weights',
    'measure_complexity',
]
