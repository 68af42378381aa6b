"""Models, registered on import."""

from mmv2m.registry import MODELS

from .backbones import V2M, EfficientVMamba, PlainMamba, VMamba
from .layers import SS2D

__all__ = ['MODELS', 'SS2D', 'V2M', 'EfficientVMamba', 'PlainMamba', 'VMamba']
