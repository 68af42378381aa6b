"""Models, registered on import."""

from mmv2m.registry import MODELS

from .backbones import V2M, LocalVim, PlainMamba, Vim, VMamba
from .layers import SS2D

__all__ = ['LocalVim', 'MODELS', 'PlainMamba', 'SS2D', 'V2M', 'VMamba', 'Vim']
