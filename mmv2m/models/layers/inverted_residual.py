"""MobileNetV2's block with squeeze and excitation, on a channels-last map."""

from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule
from torch import Tensor

from .map_conv import MapSequential

__all__ = ['InvertedResidual']


class SqueezeExcite(BaseModule):
    """Squeeze and excitation: the means of all channels make a gate for each channel.

    Args:
        channels: Channels of the map, C.
        ratio: C over the width between the two convolutions.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(self, channels: int, ratio: int, init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.reduce = ConvModule(channels, max(channels // ratio, 1), 1, inplace=False)
        self.expand = ConvModule(
            max(channels // ratio, 1), channels, 1, act_cfg=dict(type='Sigmoid')
        )

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, C, H, W) into one of the same shape."""
        return x * self.expand(self.reduce(x.mean((2, 3), keepdim=True)))


class InvertedResidual(BaseModule):
    """``x + drop_path(project(excite(depthwise(expand(x)))))``, with BatchNorm and ReLU.

    Args:
        embed_dims: Width of the map, D.
        drop_path: Rate of stochastic depth.
        expand_ratio: Inner width over D.
        squeeze_ratio: Inner width over the width inside the squeeze and excitation.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        drop_path: float = 0.0,
        expand_ratio: int = 4,
        squeeze_ratio: int = 8,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        inner = expand_ratio * embed_dims
        # Full backward hooks do not allow in-place changes of outputs.
        norm: dict = dict(bias=False, norm_cfg=dict(type='BN'), inplace=False)
        self.convs = MapSequential(
            ConvModule(embed_dims, inner, 1, **norm),
            ConvModule(inner, inner, 3, padding=1, groups=inner, **norm),
            SqueezeExcite(inner, squeeze_ratio),
            ConvModule(inner, embed_dims, 1, act_cfg=None, **norm),
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one of the same shape."""
        return x + self.drop_path(self.convs(x))
