"""The stem of the pyramids: two strided convolutions instead of patches."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from .downsample import Downsample

__all__ = ['ConvStem']


class ConvStem(BaseModule):
    """Two strided convolutions, a norm behind each and a GELU between them (VMamba).

    Args:
        in_channels: Channels of the image.
        embed_dims: Width of the map, D; half of it between the convolutions.
        norm_cfg: Norms.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        norm_cfg: dict,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.first = Downsample(in_channels, embed_dims // 2, norm_cfg)
        self.act = nn.GELU()
        self.second = Downsample(embed_dims // 2, embed_dims, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Images, (B, in_channels, H, W), to a map, (B, ceil(H / 4), ceil(W / 4), D)."""
        return self.second(self.act(self.first(x.permute(0, 2, 3, 1).contiguous())))
