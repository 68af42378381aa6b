"""EfficientVMamba's mixer: scans that skip tokens, beside a convolution."""

import math

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from .map_conv import MapConv2d, MapSequential
from .out_projection import project_gated
from .sequence_ssm import SequenceSSM, as_sequence

__all__ = ['AtrousScanMixer', 'DualMixer']

GRIDS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column at which each grid starts. A grid has every other row and column."""


class AtrousScanMixer(BaseModule):
    """Efficient 2D scanning (https://arxiv.org/abs/2403.09977, section 3.2).

    The tokens are divided into four grids of every other row and column, so each token is scanned
    once. Each grid has a selective scan with its own parameters, which reads it forwards. Grids of
    the even rows are read row by row, grids of the odd rows column by column. Odd sides get a row
    or column of zeros, which the scans read too.

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
        expand: int = 2,
        states: int = 16,
        norm_cfg: dict | None = None,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backend = backend
        inner = expand * embed_dims
        rank = math.ceil(embed_dims / 16)
        self.in_proj = nn.Linear(embed_dims, 2 * inner, bias=False)
        self.conv = MapConv2d(inner, inner, 3, padding=1, groups=inner)
        self.grids = ModuleList(SequenceSSM(inner, states, rank, backend=backend) for _ in GRIDS)
        self.norm = build_norm_layer(norm_cfg or dict(type='SameDtypeLN'), inner)[1]
        self.out_proj = nn.Linear(inner, embed_dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one of the same shape."""
        x, z = self.in_proj(x).chunk(2, -1)
        y = self.norm(self._scan(F.silu(self.conv(x))))
        return project_gated(self, y.to(z.dtype), z, self.out_proj, self.backend)

    def _scan(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        outputs = []
        for ssm, (top, left) in zip(self.grids, GRIDS, strict=True):
            grid = x[:, top::2, left::2]
            if top:
                grid = grid.transpose(1, 2)
            y = ssm(as_sequence(grid)).view(grid.shape)
            outputs.append(y.transpose(1, 2) if top else y)
        rows = [torch.stack(outputs[k : k + 2], 3) for k in (0, 2)]
        y = torch.stack(rows, 2).reshape(x.shape)
        return y[:, :height, :width]


class ChannelGate(BaseModule):
    """Squeeze and excitation behind a norm: the means of all channels make a gate for each channel.

    Args:
        embed_dims: Width of the map, D.
        ratio: D over the width between the two linear layers.
        norm_cfg: The norm. Defaults to ``dict(type='SameDtypeLN')``.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        ratio: int = 8,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.norm = build_norm_layer(norm_cfg or dict(type='SameDtypeLN'), embed_dims)[1]
        self.reduce = nn.Linear(embed_dims, embed_dims // ratio)
        self.expand = nn.Linear(embed_dims // ratio, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one of the same shape."""
        means = self.norm(x).mean((1, 2), keepdim=True)
        return x * self.expand(F.gelu(self.reduce(means))).sigmoid()


class DualMixer(BaseModule):
    """Atrous scans for distant tokens and a convolution for near ones (EVSS block, section 3.3).

    One channel gate serves both branches.

    Args:
        embed_dims: Width of the map, D.
        scan_cfg: Further arguments of :class:`AtrousScanMixer`.
        norm_cfg: Norms behind the scans and in the gate. Defaults to ``dict(type='SameDtypeLN')``.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        scan_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.scan = AtrousScanMixer(embed_dims, norm_cfg=norm_cfg, **(scan_cfg or {}))
        self.conv = MapSequential(
            nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims),
            build_norm_layer(dict(type='BN'), embed_dims)[1],
            nn.GELU(),
            nn.Conv2d(embed_dims, embed_dims, 1),
        )
        self.gate = ChannelGate(embed_dims, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one of the same shape."""
        return self.gate(self.scan(x)) + self.gate(self.conv(x))
