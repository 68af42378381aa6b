"""How the pyramids halve the resolution."""

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from .map_conv import MapConv2d

__all__ = ['Downsample']


class Downsample(BaseModule):
    """A 3 x 3 convolution of stride 2 and a norm; no map is copied.

    Args:
        in_channels: Width of the map that comes in.
        out_channels: Width of the map that goes out.
        norm_cfg: Norm.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm_cfg: dict,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.conv = MapConv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.norm = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_channels) to (B, ceil(H / 2), ceil(W / 2), out_channels)."""
        # The residual stream may be wider than the parameters.
        return self.norm(self.conv(x.to(self.conv.weight.dtype)))
