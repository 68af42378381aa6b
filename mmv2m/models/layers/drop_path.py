"""Stochastic depth as a factor for each image, which whoever adds a branch multiplies it by."""

import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn

from .door import Known, may_stand_for

__all__ = ['drop_later']

DROP_PATH = Known((DropPath,))


def drop_later(
    layer: nn.Module, drop_path: nn.Module, branch: Tensor
) -> tuple[Tensor, Tensor | None]:
    """A branch, and what stochastic depth multiplies each image's by; None where that is done.

    mmcv's layer divides the branch by the probability to keep it, and multiplies it by 0 or 1: two
    passes over the map, and two over its gradient. The same random numbers are drawn here.

    Args:
        layer: The layer that asks.
        drop_path: Is called where the factor may not stand for it.
        branch: (B, H, W, D).

    Returns:
        (B, H, W, D), and (B,) in float32, or in float64 with a float64 branch.
    """
    if not isinstance(drop_path, DropPath) or not may_stand_for(
        layer, branch, ((drop_path, DROP_PATH),)
    ):
        return drop_path(branch), None
    if not drop_path.training or not drop_path.drop_prob:
        return branch, None
    keep = 1 - drop_path.drop_prob
    shape = (branch.shape[0], 1, 1, 1)
    kept = (keep + torch.rand(shape, dtype=branch.dtype, device=branch.device)).floor()
    return branch, kept.flatten().to(torch.promote_types(branch.dtype, torch.float32)) / keep
