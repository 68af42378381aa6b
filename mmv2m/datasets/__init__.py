"""Data sets, registered on import."""

from .digits import Digits

__all__ = ['Digits']
