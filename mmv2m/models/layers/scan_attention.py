"""Attention over the channels of a scan's output, from the mean over the whole map."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from .same_dtype_norm import SameDtypeLayerNorm

__all__ = ['ScanAttention']


class ScanAttention(BaseModule):
    """LocalVim's attention over channels, ``y * sigmoid(expand(GELU(reduce(mean(norm(y))))))``.

    One module weighs all scans of a block before they are summed. The weights of each scan come
    from its own output.

    Args:
        channels: Channels of the map, E.
        ratio: Width between the two projections over E.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self, channels: int, ratio: float = 1 / 8, init_cfg: dict | list | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        inner = max(1, int(channels * ratio))
        self.norm = SameDtypeLayerNorm(channels)
        self.reduce = nn.Linear(channels, inner)
        self.expand = nn.Linear(inner, channels)

    def forward(self, y: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, E) into one of the same shape, in the dtype of ``y``."""
        pooled = self.norm(y).mean((1, 2), keepdim=True)
        weight = self.expand(F.gelu(self.reduce(pooled))).sigmoid()
        return y * weight.to(y.dtype)
