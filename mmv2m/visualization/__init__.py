"""Pictures of what a model looks at."""

from .class_activation import activation_map, overlay

__all__ = ['activation_map', 'overlay']
