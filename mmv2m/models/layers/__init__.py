"""Layers that backbones are built of; none of them knows the task."""

from .class_token import CLASS_TOKENS, CrossToken, MeanToken, build_class_token
from .conv_stem import ConvStem
from .cross_scan import CrossScanMixer
from .directional_ssm import DirectionalSSM
from .downsample import Downsample
from .map_conv import MapConv2d, MapSequential
from .mixer_block import MixerBlock
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
    'ConvStem',
    'CrossScanMixer',
    'CrossToken',
    'DirectionalSSM',
    'Downsample',
    'MapConv2d',
    'MapSequential',
    'MeanToken',
    'MixerBlock',
    'PositionEmbedding',
    'RMSNorm',
    'Route',
    'SS2D',
    'SequenceSSM',
    'SnakeScanMixer',
    'V2MBlock',
    'build_class_token',
    'plan_routes',
    'resize_map',
]
