"""Pictures of the parts of an image that a model uses."""

from .class_activation import activation_map, overlay

__all__ = ['activation_map', 'overlay']
