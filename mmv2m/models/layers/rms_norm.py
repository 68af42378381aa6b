"""Registers PyTorch's RMSNorm, so that configs can say ``norm_cfg=dict(type='RMSNorm')``."""

from torch.nn import RMSNorm

from mmv2m.registry import MODELS

__all__ = ['RMSNorm']

if 'RMSNorm' not in MODELS:
    MODELS.register_module('RMSNorm', module=RMSNorm)
