"""What the operators compute, in plain PyTorch: the judge of every kernel."""

from .definition import (
    directional_conv_reference,
    directional_scan_reference,
    seen_by_taps,
    token_at,
    weight_taps,
)

__all__ = [
    'directional_conv_reference',
    'directional_scan_reference',
    'seen_by_taps',
    'token_at',
    'weight_taps',
]
