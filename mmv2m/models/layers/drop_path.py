"""Stochastic depth as a factor for each image, which whoever adds a branch multiplies it by."""

import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import Tensor, nn

from .door import Known, may_stand_for, unchanged

__all__ = ['DropLater']

DROP_PATH = Known(unchanged(DropPath))


class DropLater:
    """Stochastic depth of a block's branches, in one forward pass.

    mmcv's layer divides the branch by the probability to keep it, and multiplies it by 0 or 1: two
    passes over the map, and two over its gradient. Here are factors of the same distribution: the
    probability to keep a branch is exact, where mmcv's layer rounds it to a branch's half
    precision. Those of all branches are drawn at once, as each draw costs a GPU two launches.

    Args:
        layer: The block.
        branches: How many there are.
    """

    def __init__(self, layer: nn.Module, branches: int) -> None:
        self.layer = layer
        self.branches = branches
        self.drawn: list[Tensor] = []
        self.keep = 0.0

    def __call__(self, drop_path: nn.Module, branch: Tensor) -> tuple[Tensor, Tensor | None]:
        """A branch, and what stochastic depth multiplies each image's by; None where that is done.

        Args:
            drop_path: Is called where the factor may not stand for it.
            branch: (B, H, W, D).

        Returns:
            (B, H, W, D), and (B,) in float32, or in float64 with a float64 branch.
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
    """Factors 0 or 1 / keep for each image, (B,), of several branches that are like one.

    They are float32, or float64 with a float64 branch.
    """
    images = branch.shape[0]
    # Each row begins at a multiple of 16 bytes, as new tensors do: kernels are compiled for it.
    padded = -(-images // 4) * 4
    exact = torch.promote_types(branch.dtype, torch.float32)
    factors = branch.new_empty((branches, padded), dtype=exact).bernoulli_(keep).div_(keep)
    return list(factors[:, :images].unbind())
