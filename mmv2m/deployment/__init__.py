"""Trained models as files that run without OpenMMLab."""

from .configs import build_model, image_size, loaded_channels
from .onnx_model import INSTALL, Exported, export_onnx, missing_packages
from .parts import PARTS, Features, Logits, describe, part_of

__all__ = [
    'INSTALL',
    'PARTS',
    'Exported',
    'Features',
    'Logits',
    'build_model',
    'describe',
    'export_onnx',
    'image_size',
    'loaded_channels',
    'missing_packages',
    'part_of',
]
