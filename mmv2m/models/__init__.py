"""Models, registered on import."""

from .backbones import V2M
from .layers import SS2D

__all__ = ['SS2D', 'V2M']
