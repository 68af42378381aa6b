"""Layers that backbones are built of; none of them knows the task."""

from .class_token import CLASS_TOKENS, CrossToken, MeanToken, build_class_token
from .corner_ssm import CornerSSM, WindowSSM
from .directional_ssm import DirectionalSSM
from .local_scans import LOCAL_SCANS
from .patches import ConvStem, Downsample, PatchMap
from .position import PositionEmbedding, resize_map
from .rms_norm import RMSNorm
from .routes import CORNERS, Route, RouteGroup, plan_groups, plan_local_groups, plan_routes
from .same_dtype_norm import SameDtypeLayerNorm
from .scan_attention import ScanAttention
from .ss2d import SS2D
from .v2m_block import V2MBlock

__all__ = [
    'CLASS_TOKENS',
    'CORNERS',
    'ConvStem',
    'CornerSSM',
    'CrossToken',
    'DirectionalSSM',
    'Downsample',
    'LOCAL_SCANS',
    'MeanToken',
    'PatchMap',
    'PositionEmbedding',
    'RMSNorm',
    'Route',
    'RouteGroup',
    'SS2D',
    'SameDtypeLayerNorm',
    'ScanAttention',
    'V2MBlock',
    'WindowSSM',
    'build_class_token',
    'plan_groups',
    'plan_local_groups',
    'plan_routes',
    'resize_map',
]
