"""Layers that backbones are built of; none of them knows the task."""

from .atrous_scan import AtrousScanMixer, DualMixer
from .class_token import CLASS_TOKENS, CrossToken, MeanToken, build_class_token
from .cross_scan import CrossScanMixer
from .directional_ssm import DirectionalSSM
from .inverted_residual import InvertedResidual
from .map_conv import MapConv2d, MapSequential
from .mixer_block import MixerBlock
from .patch_merging import MapPatchMerging
from .patches import ConvStem, Downsample, PatchMap
from .position import PositionEmbedding, resize_map
from .rms_norm import RMSNorm
from .routes import CORNERS, Route, plan_routes
from .sequence_ssm import SequenceSSM
from .snake_scan import SnakeScanMixer
from .ss2d import SS2D
from .v2m_block import V2MBlock

__all__ = [
    'CLASS_TOKENS',
    'CORNERS',
    'SS2D',
    'AtrousScanMixer',
    'ConvStem',
    'CrossScanMixer',
    'CrossToken',
    'DirectionalSSM',
    'Downsample',
    'DualMixer',
    'InvertedResidual',
    'MapConv2d',
    'MapPatchMerging',
    'MapSequential',
    'MeanToken',
    'MixerBlock',
    'PatchMap',
    'PositionEmbedding',
    'RMSNorm',
    'Route',
    'SequenceSSM',
    'SnakeScanMixer',
    'V2MBlock',
    'build_class_token',
    'plan_routes',
    'resize_map',
]
