"""V2M's block: a normalised 2D SSM, and perhaps an MLP, on a residual stream."""

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.drop import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from .ss2d import SS2D

__all__ = ['V2MBlock']


class V2MBlock(BaseModule):
    """``x + drop_path(mixer(norm(x)))``, likewise with an MLP; ``x`` is kept in at least float32.

    Args:
        embed_dims: Width of the map, D.
        drop_path: Rate of stochastic depth.
        norm_cfg: Norm in front of the mixer and of the MLP.
        mixer_cfg: Further arguments of :class:`SS2D`.
        ffn_ratio: Inner width of the MLP over D; 0 for no MLP, as in the plain V2M.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        drop_path: float = 0.0,
        norm_cfg: dict | None = None,
        mixer_cfg: dict | None = None,
        ffn_ratio: float = 0.0,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        norm_cfg = norm_cfg or dict(type='RMSNorm')
        self.norm = build_norm_layer(norm_cfg, embed_dims)[1]
        self.mixer = SS2D(embed_dims, **(mixer_cfg or {}))
        self.drop_path = DropPath(drop_path)
        self.ffn: FFN | None = None
        if ffn_ratio:
            self.ffn_norm = build_norm_layer(norm_cfg, embed_dims)[1]
            self.ffn = FFN(
                embed_dims,
                int(ffn_ratio * embed_dims),
                act_cfg=dict(type='GELU'),
                dropout_layer=dict(type='DropPath', drop_prob=drop_path),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) to (B, H, W, D), float32 or float64."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        x = x + self.drop_path(self.mixer(_normed(x, self.norm)))
        return x if self.ffn is None else self.ffn(_normed(x, self.ffn_norm), identity=x)


def _normed(x: Tensor, norm: nn.Module) -> Tensor:
    # A model cast to half precision as a whole keeps its residual stream in float32.
    return norm(x.to(next(norm.parameters()).dtype))
