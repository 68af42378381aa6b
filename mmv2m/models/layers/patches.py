"""Layers that turn images into a channels-last map of tokens, and maps into smaller ones."""

import math

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmv2m.ops.convolution import conv2d
from mmv2m.ops.precision import has_autocast

from .door import Known, may_stand_for, unchanged
from .params import dtype_of
from .same_dtype_norm import SAME_DTYPE_NORM, SameDtypeLayerNorm
from .sizes import is_known

__all__ = ['ConvStem', 'Downsample', 'PatchMap']

AT_ONCE = 8
"""Input channels below which cuDNN's convolutions in half precision are slow.

Tensor cores read eight channels at once in half precision.
"""

CONV = Known(
    unchanged(nn.Conv2d),
    (('weight', True), ('bias', None)),
    (('dilation', (1, 1)), ('groups', 1), ('padding_mode', 'zeros')),
)


class PatchMap(BaseModule):
    """A linear projection of patches, side by side or overlapping.

    Images that the patches do not cover exactly are padded with zeros, at the bottom and the right.
    Weights start LeCun-normal, biases at zero.

    Where patches lie side by side and :func:`.door.may_stand_for` allows it, a matrix product
    replaces the convolution, since cuDNN has no fast convolution of three channels.

    Args:
        in_channels: Channels of the image.
        embed_dims: Width of the map, D.
        patch_size: Side of a patch in pixels.
        img_size: The image size in pixels, an int or (H, W), for which :attr:`init_out_size` is
            computed.
        stride: Pixels from one patch to the next, at most ``patch_size``. Defaults to
            ``patch_size``.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Attributes:
        init_out_size: Patches along H and W of an image of ``img_size``.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        patch_size: int,
        img_size: int | tuple[int, int],
        stride: int | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.patch_size = patch_size
        self.stride = stride or patch_size
        self.projection = nn.Conv2d(in_channels, embed_dims, patch_size, self.stride)
        self.init_out_size = self.grid_size(to_2tuple(img_size))
        weight, bias = self.projection.parameters()
        nn.init.trunc_normal_(weight, std=(in_channels * patch_size**2) ** -0.5)
        nn.init.zeros_(bias)

    def grid_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Patches along H and W of an image of H x W pixels."""
        height, width = (-(-max(s - self.patch_size, 0) // self.stride) + 1 for s in image_size)
        return height, width

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, in_channels, H, W) into a contiguous (B, *grid_size((H, W)), D)."""
        size = (x.shape[2], x.shape[3])
        covered = [(n - 1) * self.stride + self.patch_size for n in self.grid_size(size)]
        below, right = covered[0] - size[0], covered[1] - size[1]
        if not is_known(below == 0) or not is_known(right == 0):
            x = F.pad(x, (0, right, 0, below))
        if self._multiplies(x):
            return F.linear(self._cut(x), self.projection.weight.flatten(1), self.projection.bias)
        # Otherwise the whole residual stream would have the channels-first strides of the
        # convolution's output, and every norm would copy it.
        return self.projection(x).permute(0, 2, 3, 1).contiguous()

    def _multiplies(self, x: Tensor) -> bool:
        """Whether a matrix product may stand for the convolution."""
        if self.stride != self.patch_size:
            return False
        side = (self.patch_size, self.patch_size)
        settings = (('kernel_size', side), ('stride', side), ('padding', (0, 0)), *CONV.settings)
        # PyTorch 2.8 cannot compile a call of CONV._replace.
        conv = Known(CONV.kinds, CONV.parameters, settings)
        return may_stand_for(self, x, ((self.projection, conv),))

    def _cut(self, x: Tensor) -> Tensor:
        """Cut an image into patches, (B, h, w, in_channels * patch_size ** 2)."""
        x = x.to(_dtype_of_products(x, x.dtype))  # a cast before the copy makes the copy smaller
        size = self.patch_size
        patches = x.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        return patches.permute(0, 2, 4, 1, 3, 5).flatten(3)


class Downsample(BaseModule):
    """A 3 x 3 convolution of stride 2 on a channels-last map, and a norm.

    Where :func:`.door.may_stand_for` allows it, the norm adds the convolution's bias, and no map is
    copied, with two exceptions. Images in half precision have few channels, so zeros are appended
    up to :data:`AT_ONCE` channels. On a CPU, a map is copied if one image of it has fewer numbers
    than the weights, because PyTorch would copy the weights otherwise.

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
        """Turn (B, H, W, in_channels) into (B, ceil(H / 2), ceil(W / 2), out_channels)."""
        x = x.to(self.dtype_read(x))  # without this, it would be cast to float32 and back
        if not may_stand_for(self, x, ((self.conv, CONV),)):
            return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        if isinstance(self.norm, SameDtypeLayerNorm) and may_stand_for(
            self, x, ((self.norm, SAME_DTYPE_NORM),)
        ):
            return self.norm(self._convolve(x), self.conv.bias)
        return self.norm(self._convolve(x, self.conv.bias))

    def dtype_read(self, x: Tensor) -> torch.dtype:
        """The dtype to which the layer casts a map before anything else."""
        return _dtype_of_products(x, dtype_of(self.conv, default=x.dtype))

    def _convolve(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        weight, missing = self.conv.weight, -x.shape[-1] % AT_ONCE
        if x.is_cpu and is_known(weight.numel() > math.prod(x.shape[1:])):
            # PyTorch would copy the weights into the map's memory format. The number of images is
            # not counted, so that the rounding of an image's result does not depend on it.
            x = x.permute(0, 3, 1, 2).contiguous()
        else:
            # The weights are cast here, and not by a surrounding autocast, in order to get the
            # memory format of the map. Otherwise, forward and backward pass would each copy them.
            weight = weight.permute(0, 2, 3, 1).to(x.dtype, memory_format=torch.contiguous_format)
            if missing and x.dtype.itemsize == 2:
                x, weight = F.pad(x, (0, missing)), F.pad(weight, (0, missing))
            # A contiguous (B, H, W, C) map has the strides of a channels-last (B, C, H, W) tensor,
            # and so has the convolution's result.
            x, weight = (t.permute(0, 3, 1, 2) for t in (x.contiguous(), weight))
        x = conv2d(x, weight, bias, self.conv.stride, self.conv.padding)
        return x.permute(0, 2, 3, 1).contiguous()


class ConvStem(BaseModule):
    """Two strided convolutions with norms and a GELU between them, as in VMamba.

    The tokens cover 4 x 4 pixels.

    Args:
        in_channels: Channels of the image.
        embed_dims: Width of the map, D. Between the convolutions, the width is half of it.
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
        """Turn (B, in_channels, H, W) into (B, ceil(H / 4), ceil(W / 4), D)."""
        return self.second(self.act(self.first(x.permute(0, 2, 3, 1))))


def _dtype_of_products(x: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype of products under a surrounding autocast, or ``dtype`` if there is none."""
    return torch.get_autocast_dtype(x.device.type) if has_autocast(x) else dtype
