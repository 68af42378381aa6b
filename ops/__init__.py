"""Scan operators on channels-last maps; PyTorch (and Triton, where it is) only, no OpenMMLab.

Imported as ``mmv2m.ops``.
"""

from .add_norm import add_norm
from .backends import BACKENDS, can_run, choose_backend
from .channel_norm import channel_norm
from .directional_conv import directional_conv
from .directional_scan import directional_scan
from .directional_ssm import directional_ssm
from .directions import DIRECTIONS, Direction
from .gated_linear import gated_linear
from .halves import Halves
from .mixer_2d import ScanNorm, mixer_2d
from .mlp import mlp
from .reference import directional_conv_reference, directional_scan_reference
from .ssm_2d import ssm_2d

__all__ = [
    'BACKENDS',
    'DIRECTIONS',
    'Direction',
    'Halves',
    'ScanNorm',
    'add_norm',
    'can_run',
    'channel_norm',
    'choose_backend',
    'directional_conv',
    'directional_conv_reference',
    'directional_scan',
    'directional_scan_reference',
    'directional_ssm',
    'gated_linear',
    'mixer_2d',
    'mlp',
    'ssm_2d',
]
