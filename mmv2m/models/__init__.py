"""Models, which importing this package registers."""

from mmv2m.registry import MODELS
from mmv2m.utils.checkpoints import read_checkpoints_safely

from .backbones import V2M, EfficientVMamba, LocalVim, PlainMamba, PlainMambaAdapter, Vim, VMamba
from .layers import SS2D

__all__ = [
    'EfficientVMamba',
    'LocalVim',
    'MODELS',
    'PlainMamba',
    'PlainMambaAdapter',
    'SS2D',
    'V2M',
    'VMamba',
    'Vim',
]

read_checkpoints_safely()
