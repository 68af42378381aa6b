"""The definitions of the operators in plain PyTorch, with which every kernel is compared."""

from .coupled import coupled_scan_reference
from .definition import (
    directional_conv_reference,
    directional_scan_reference,
    seen_by_taps,
    token_at,
    weight_taps,
)

__all__ = [
    'coupled_scan_reference',
    'directional_conv_reference',
    'directional_scan_reference',
    'seen_by_taps',
    'token_at',
    'weight_taps',
]
