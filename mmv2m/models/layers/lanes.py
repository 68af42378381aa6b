"""A one-dimensional convolution along the rows or columns of a channels-last map."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmv2m.ops.directions import Direction, get_direction

__all__ = ['convolve_lanes']


def convolve_lanes(conv: nn.Module, x: Tensor, taps: int, direction: str | Direction) -> Tensor:
    """Call a convolution on every row or column as on a causal sequence.

    Args:
        conv: The convolution, which takes (lanes, E, L + taps - 1) and returns (lanes, E, L).
        x: (B, H, W, E).
        taps: Taps of the convolution. The last one reads the token itself.
        direction: Direction of the sequences, or its name in :data:`mmv2m.ops.DIRECTIONS`.

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
