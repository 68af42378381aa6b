"""V2M's block: a normalised 2D SSM on a residual stream."""

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule
from torch import Tensor

from .ss2d import SS2D

__all__ = ['V2MBlock']


class V2MBlock(BaseModule):
    """``x + drop_path(mixer(norm(x)))``, with ``x`` kept in at least float32.

    Args:
        embed_dims: Width of the map, D.
        drop_path: Rate of stochastic depth.
        norm_cfg: Norm in front of the mixer.
        mixer_cfg: Further arguments of :class:`SS2D`.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        drop_path: float = 0.0,
        norm_cfg: dict | None = None,
        mixer_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.norm = build_norm_layer(norm_cfg or dict(type='RMSNorm'), embed_dims)[1]
        self.mixer = SS2D(embed_dims, **(mixer_cfg or {}))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) to (B, H, W, D), float32 or float64."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        # A model cast to half precision as a whole keeps its residual stream in float32.
        normed = self.norm(x.to(self.mixer.in_proj.weight.dtype))
        return x + self.drop_path(self.mixer(normed))
