"""Backbones, one file each."""

from .v2m import V2M
from .vmamba import VMamba

__all__ = ['V2M', 'VMamba']
