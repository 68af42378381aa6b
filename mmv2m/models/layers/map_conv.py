"""Convolutions and other layers for (B, C, H, W) tensors, applied to channels-last maps."""

from torch import Tensor, nn

from mmv2m.ops.convolution import conv2d

from .params import dtype_of

__all__ = ['MapConv2d', 'MapSequential']


class MapConv2d(nn.Conv2d):
    """A two-dimensional convolution of a channels-last map; its arguments are those of Conv2d.

    Only strides are permuted, so that PyTorch gets a tensor in its channels-last memory format.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, H, W, in_channels) into (B, H', W', out_channels)."""
        x = x.permute(0, 3, 1, 2)
        if self.padding_mode != 'zeros' or isinstance(self.padding, str):
            return super().forward(x).permute(0, 2, 3, 1)
        options = self.stride, self.padding, self.dilation, self.groups
        return conv2d(x, self.weight, self.bias, *options).permute(0, 2, 3, 1)


class MapSequential(nn.Sequential):
    """Layers for (B, C, H, W) tensors on a (B, H, W, C) map, in the dtype of their parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, H, W, C) into (B, H', W', C')."""
        x = x.to(dtype_of(self, default=x.dtype))
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
