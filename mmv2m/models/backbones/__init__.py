"""Backbones, one file each."""

from .efficient_vmamba import EfficientVMamba
from .plain_mamba import PlainMamba
from .v2m import V2M
from .vmamba import VMamba

__all__ = ['V2M', 'EfficientVMamba', 'PlainMamba', 'VMamba']
