"""Swin's downsampling on a channels-last map."""

from mmcv.cnn.bricks.transformer import PatchMerging
from torch import Tensor

from .params import dtype_of

__all__ = ['MapPatchMerging']


class MapPatchMerging(PatchMerging):
    """mmcv's patch merging, from (B, H, W, C) to (B, ceil(H / 2), ceil(W / 2), out_channels)."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, H, W, in_channels) into (B, ceil(H / 2), ceil(W / 2), out_channels)."""
        # The residual stream may be wider than the parameters.
        tokens = x.to(dtype_of(self, default=x.dtype)).flatten(1, 2)
        merged, size = super().forward(tokens, (x.shape[1], x.shape[2]))
        return merged.unflatten(1, size)
