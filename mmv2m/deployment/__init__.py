"""Trained models as files that run without OpenMMLab."""

from .onnx_model import INSTALL, Exported, export_onnx, missing_packages
from .parts import PARTS, Features, Logits, describe, loaded_channels, part_of

__all__ = [
    'INSTALL',
    'PARTS',
    'Exported',
    'Features',
    'Logits',
    'describe',
    'export_onnx',
    'loaded_channels',
    'missing_packages',
    'part_of',
]
