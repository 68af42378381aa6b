"""Backbones, one file each."""

from .efficient_vmamba import EfficientVMamba
from .local_vim import LocalVim
from .plain_mamba import PlainMamba
from .plain_mamba_adapter import PlainMambaAdapter
from .v2m import V2M
from .vim import Vim
from .vmamba import VMamba

__all__ = ['EfficientVMamba', 'LocalVim', 'PlainMamba', 'PlainMambaAdapter', 'V2M', 'VMamba', 'Vim']
