"""Scan operators on channels-last maps, imported as ``mmv2m.ops``.

They need PyTorch, use Triton if it is installed, and do not need OpenMMLab.
"""

from .add_norm import add_norm
from .backends import BACKENDS, can_run, choose_backend
from .channel_norm import channel_norm
from .corner_ssm import corner_ssm
from .coupled_scan import coupled_scan
from .coupled_ssm import coupled_ssm
from .directional_conv import directional_conv
from .directional_scan import directional_scan
from .directional_ssm import directional_ssm
from .directions import CORNERS, DIRECTIONS, Corner, CornerGroup, Direction
from .gated_linear import gated_linear
from .groups import Group, Halves
from .mlp import mlp
from .reference import (
    coupled_scan_reference,
    directional_conv_reference,
    directional_scan_reference,
)
from .runtime.rehearsal import compiling_ahead
from .selective_scan import selective_scan_fn
from .ss2d import ScanNorm, ss2d

# Earlier versions had these names.
mixer_2d, ssm_2d = ss2d, corner_ssm

__all__ = [
    'BACKENDS',
    'CORNERS',
    'Corner',
    'CornerGroup',
    'DIRECTIONS',
    'Direction',
    'Group',
    'Halves',
    'ScanNorm',
    'add_norm',
    'can_run',
    'channel_norm',
    'choose_backend',
    'compiling_ahead',
    'corner_ssm',
    'coupled_scan',
    'coupled_scan_reference',
    'coupled_ssm',
    'directional_conv',
    'directional_conv_reference',
    'directional_scan',
    'directional_scan_reference',
    'directional_ssm',
    'gated_linear',
    'mixer_2d',
    'mlp',
    'selective_scan_fn',
    'ss2d',
    'ssm_2d',
]
