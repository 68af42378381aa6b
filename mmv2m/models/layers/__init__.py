"""Layers of which backbones are built. None of them depends on the task."""

from .atrous_scan import AtrousScanMixer, DualMixer
from .class_token import CLASS_TOKENS, CrossToken, MeanToken, build_class_token
from .corner_ssm import CornerSSM, WindowSSM
from .corners import CORNERS, plan_corners, plan_groups, plan_local_groups
from .coupled_ssm import CoupledSSM
from .cross_scan import CrossScanMixer
from .directional_ssm import DirectionalSSM
from .ffn import FFN
from .inverted_residual import InvertedResidual
from .local_scans import LOCAL_SCANS
from .map_conv import MapConv2d, MapSequential
from .middle_token import MiddleToken
from .mixer_block import MixerBlock
from .out_projection import OutProjection
from .patch_merging import MapPatchMerging
from .patches import ConvStem, Downsample, PatchMap
from .position import PositionEmbedding, resize_map
from .rms_norm import RMSNorm
from .rotary import RotaryPosition
from .same_dtype_norm import SameDtypeLayerNorm
from .scan_attention import ScanAttention
from .scan_mixer import ScanMixer
from .scan_orders import ScanOrder, parse_scans
from .sequence_ssm import SequenceSSM
from .snake_scan import SnakeScanMixer
from .ss2d import SS2D
from .stage import Stage
from .stream import Stream
from .v2m_block import V2MBlock

__all__ = [
    'AtrousScanMixer',
    'CLASS_TOKENS',
    'CORNERS',
    'ConvStem',
    'CornerSSM',
    'CoupledSSM',
    'CrossScanMixer',
    'CrossToken',
    'DirectionalSSM',
    'Downsample',
    'DualMixer',
    'FFN',
    'InvertedResidual',
    'LOCAL_SCANS',
    'MapConv2d',
    'MapPatchMerging',
    'MapSequential',
    'MeanToken',
    'MiddleToken',
    'MixerBlock',
    'OutProjection',
    'PatchMap',
    'PositionEmbedding',
    'RMSNorm',
    'RotaryPosition',
    'SS2D',
    'SameDtypeLayerNorm',
    'ScanAttention',
    'ScanMixer',
    'ScanOrder',
    'SequenceSSM',
    'SnakeScanMixer',
    'Stage',
    'Stream',
    'V2MBlock',
    'WindowSSM',
    'build_class_token',
    'parse_scans',
    'plan_corners',
    'plan_groups',
    'plan_local_groups',
    'resize_map',
]
