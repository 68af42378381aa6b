"""Pictures of the parts of an image that a model uses."""

from .class_activation import activation_map, overlay
from .corner_views import CornerView, corner_views
from .heat_maps import draw_heat_maps
from .receptive_field import effective_receptive_field, side_holding

__all__ = [
    'CornerView',
    'activation_map',
    'corner_views',
    'draw_heat_maps',
    'effective_receptive_field',
    'overlay',
    'side_holding',
]
