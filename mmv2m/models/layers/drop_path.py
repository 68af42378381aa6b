"""Stochastic depth as a factor for each image, by which the sum with a branch multiplies it."""

import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn

from .door import Known, may_stand_for, unchanged

__all__ = ['DropLater']

DROP_PATH = Known(unchanged(DropPath))


class DropLater:
    """Stochastic depth of a block's branches, in one forward pass.

    mmcv's layer divides the branch by the probability to keep it, and multiplies it by 0 or 1. That
    takes two passes over the map, and two over its gradient. This class draws factors of the same
    distribution instead, except that mmcv's layer rounds the probability to the dtype of the
    branch. The factors of all branches are drawn at once, because each draw costs two kernel
    launches.

    Args:
        layer: The block.
        branches: Number of its branches.
    """

    def __init__(self, layer: nn.Module, branches: int) -> None:
        self.layer = layer
        self.branches = branches
        self.drawn: list[Tensor] = []
        self.keep = 0.0

    def __call__(self, drop_path: nn.Module, branch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a branch, and the factor by which each image's branch is still to be multiplied.

        Args:
            drop_path: The module, which is called if the factor may not stand for it.
            branch: (B, H, W, D).

        Returns:
            The branch, (B, H, W, D), and the factors, (B,), in float32, or in float64 with a
            float64 branch. The factors are None if nothing is left to be multiplied.
        """
        if not isinstance(drop_path, DropPath) or not may_stand_for(
            self.layer, branch, ((drop_path, DROP_PATH),)
        ):
            return drop_path(branch), None
        if not drop_path.training or not drop_path.drop_prob:
            return branch, None
        keep = 1 - drop_path.drop_prob
        if not self.drawn or keep != self.keep:
            self.drawn, self.keep = draw_factors(self.branches, branch, keep), keep
        return branch, self.drawn.pop()


def draw_factors(branches: int, branch: Tensor, keep: float) -> list[Tensor]:
    """Draw a factor, 0 or 1 / keep, for each image and each of several branches.

    Args:
        branches: Number of branches.
        branch: (B, H, W, D), one of them; the others have its dtype and its number of images.
        keep: Probability to keep a branch.

    Returns:
        (B,) for each branch, in float32, or in float64 with a float64 branch.
    """
    images = branch.shape[0]
    # Each row begins at a multiple of 16 bytes, as new tensors do, because kernels are compiled for
    # that.
    padded = -(-images // 4) * 4
    exact = torch.promote_types(branch.dtype, torch.float32)
    factors = branch.new_empty((branches, padded), dtype=exact).bernoulli_(keep).div_(keep)
    return list(factors[:, :images].unbind())
