"""Backbones, one file each."""

from .plain_mamba import PlainMamba
from .v2m import V2M
from .vmamba import VMamba

__all__ = ['V2M', 'PlainMamba', 'VMamba']
