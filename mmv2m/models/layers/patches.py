"""From images to a channels-last map of tokens, and on to smaller maps."""

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import BaseModule
from torch import Tensor, nn

__all__ = ['ConvStem', 'Downsample', 'PatchMap']


class PatchMap(PatchEmbed):
    """A linear projection of non-overlapping patches.

    Args:
        in_channels: Channels of the image.
        embed_dims: Width of the map, D.
        patch_size: Side of a patch. Images whose sides it does not divide are padded with zeros at
            the bottom and the right.
        img_size: The size that :attr:`init_out_size` is computed for.
    """

    def __init__(
        self, in_channels: int, embed_dims: int, patch_size: int, img_size: int | tuple[int, int]
    ) -> None:
        super().__init__(
            in_channels, embed_dims, kernel_size=patch_size, stride=None, input_size=img_size
        )
        weight, bias = self.projection.weight, self.projection.bias
        nn.init.trunc_normal_(weight, std=weight[0].numel() ** -0.5)
        nn.init.zeros_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, ceil(H / patch), ceil(W / patch), D), contiguous."""
        tokens, size = super().forward(x)
        # Otherwise the whole residual stream would have the channels-first strides of the
        # convolution's output, and every norm would copy it.
        return tokens.contiguous().unflatten(1, size)


class Downsample(BaseModule):
    """A 3 x 3 convolution of stride 2 on a channels-last map, and a norm; no map is copied.

    Args:
        in_channels: Width of the map.
        out_channels: Width of the result.
        norm_cfg: The norm.
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
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.norm = build_norm_layer(norm_cfg, out_channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_channels) to (B, ceil(H / 2), ceil(W / 2), out_channels)."""
        # A contiguous (B, H, W, C) map is a channels-last (B, C, H, W) one as it stands, and so is
        # what the convolution makes of it.
        x = x.to(self.conv.weight.dtype).permute(0, 3, 1, 2)
        x = self.conv(x.contiguous(memory_format=torch.channels_last))
        return self.norm(x.permute(0, 2, 3, 1))


class ConvStem(BaseModule):
    """Two strided convolutions with norms, GELU between them: tokens of 4 x 4 pixels (VMamba).

    Args:
        in_channels: Channels of the image.
        embed_dims: Width of the map, D; half of it between the convolutions.
        norm_cfg: The norms.
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
        """(B, in_channels, H, W) to (B, ceil(H / 4), ceil(W / 4), D)."""
        return self.second(self.act(self.first(x.permute(0, 2, 3, 1))))
