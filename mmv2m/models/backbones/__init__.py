"""Backbones, one file each."""

from .v2m import V2M

__all__ = ['V2M']
