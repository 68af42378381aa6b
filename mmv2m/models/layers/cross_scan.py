"""VMamba's mixer: four scans across the map."""

import math

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from .map_conv import MapConv2d
from .sequence_ssm import SequenceSSM, as_sequence

__all__ = ['CrossScanMixer']

BOTH_WAYS = ('right', 'left')


class CrossScanMixer(BaseModule):
    """Cross-scan state space model (VMamba, https://arxiv.org/abs/2401.10166, Fig. 3 and 4).

    Four selective scans with their own parameters read the map row by row and column by column,
    both forwards and backwards. Their sum is normalised, and there is no gate. The sequence of rows
    is the map itself, and the sequence of columns takes one copy. Nothing is flipped.

    Args:
        embed_dims: Width of the map, D.
        expand: Inner width E over D.
        states: States per channel, N.
        norm_cfg: Norm behind the scans. Defaults to ``dict(type='SameDtypeLN')``.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        expand: float = 1.0,
        states: int = 1,
        norm_cfg: dict | None = None,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        inner = int(expand * embed_dims)
        rank = math.ceil(embed_dims / 16)
        self.in_proj = nn.Linear(embed_dims, inner, bias=False)
        self.conv = MapConv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.rows = SequenceSSM(inner, states, rank, BOTH_WAYS, backend)
        self.columns = SequenceSSM(inner, states, rank, BOTH_WAYS, backend)
        self.norm = build_norm_layer(norm_cfg or dict(type='SameDtypeLN'), inner)[1]
        self.out_proj = nn.Linear(inner, embed_dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one of the same shape."""
        x = F.silu(self.conv(self.in_proj(x)))
        turned = x.transpose(1, 2)
        y = self.rows(as_sequence(x)).view(x.shape)
        y = y + self.columns(as_sequence(turned)).view(turned.shape).transpose(1, 2)
        return self.out_proj(self.norm(y))
