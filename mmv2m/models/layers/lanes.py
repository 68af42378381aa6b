"""A one-dimensional convolution along the rows or columns of a channels-last map."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmv2m.ops.directions import Direction, get_direction

__all__ = ['convolve_lanes']


def convolve_lanes(conv: nn.Module, x: Tensor, taps: int, direction: str | Direction) -> Tensor:
    """Call a convolution on every row or column as on a causal sequence.

    Args:
        conv: Takes (lanes, E, L + taps - 1) sequences and returns (lanes, E, L).
        x: (B, H, W, E).
        taps: Taps of the convolution; the last one sees the token itself.
        direction: Which way the sequences run, or its name among :data:`mmv2m.ops.DIRECTIONS`.

    Returns:
        (B, H, W, E).
    """
    walk = get_direction(direction)
    lanes = x.transpose(1, 2) if walk.axis == 1 else x  # (B, lanes, L, E)
    lanes = lanes.flip(2) if walk.reverse else lanes
    sequences = lanes.flatten(0, 1).transpose(1, 2)
    y = conv(F.pad(sequences, (taps - 1, 0))).transpose(1, 2)
    y = y.unflatten(0, lanes.shape[:2])
    y = y.flip(2) if walk.reverse else y
    return y.transpose(1, 2) if walk.axis == 1 else y
