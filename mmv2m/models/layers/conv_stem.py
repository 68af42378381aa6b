"""The stem of the pyramids: two strided convolutions instead of patches."""

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from .map_conv import MapConv2d

__all__ = ['ConvStem']


class ConvStem(BaseModule):
    """Two 3 x 3 convolutions of stride 2, a norm behind each and a GELU between them.

    Args:
        in_channels: Channels of the image.
        embed_dims: Width of the map, D; the first convolution has half of it.
        norm_cfg: Norms. Defaults to ``dict(type='LN')``.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        norm_cfg = norm_cfg or dict(type='LN')
        half = embed_dims // 2
        self.conv1 = MapConv2d(in_channels, half, 3, stride=2, padding=1)
        self.norm1 = build_norm_layer(norm_cfg, half)[1]
        self.act = nn.GELU()
        self.conv2 = MapConv2d(half, embed_dims, 3, stride=2, padding=1)
        self.norm2 = build_norm_layer(norm_cfg, embed_dims)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Images, (B, in_channels, H, W), to a map, (B, ceil(H / 4), ceil(W / 4), D)."""
        x = x.permute(0, 2, 3, 1).contiguous()
        x = self.act(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(x))
