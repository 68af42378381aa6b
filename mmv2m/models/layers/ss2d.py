"""The 2D state space model, started from several corners: V2M's mixer."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmv2m.ops import gated_linear

from .directional_ssm import DirectionalSSM
from .routes import CORNERS, plan_routes

__all__ = ['SS2D']


class SS2D(BaseModule):
    """2D selective SSM over a channels-last map (V2M, Eq. 7-15).

    ``out_proj(sum over corners of gate(columns(gate(rows(x)))))`` with ``x, z = in_proj(map)`` and
    ``gate(y) = y * SiLU(z)``; all corners share the parameters. The two projections act on single
    tokens and run once, and so does the second gate, behind the sum.

    Args:
        embed_dims: Width of the map, D.
        expand: Inner width E over D.
        states: States a channel, N.
        conv_size: Taps of the convolutions.
        dt_rank: Rank of the time step's projection, R; ``'auto'`` for ceil(D / 16).
        corners: Where the SSM starts: some of ``'UL', 'LR', 'UR', 'LL'``.
        geometry: ``'paper'``, or ``'released'`` for exactly what the authors' released code
            computes: other branches, half their sum, transposed; square maps only.
        out_proj_scale: Factor on the initial weights of ``out_proj``; 1 / sqrt(depth) in V2M.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`. ``out_proj`` and the time steps keep their
            own initialisation whatever is configured here or above.

    Raises:
        ValueError: If ``corners`` or ``geometry`` is impossible.
    """

    def __init__(
        self,
        embed_dims: int,
        expand: int = 2,
        states: int = 16,
        conv_size: int = 4,
        dt_rank: int | str = 'auto',
        corners: Sequence[str] = tuple(CORNERS),
        geometry: str = 'paper',
        out_proj_scale: float = 1.0,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.geometry = geometry
        self.first, self.second, self.flip = zip(*plan_routes(corners, geometry), strict=True)
        self.out_proj_scale = out_proj_scale
        inner = expand * embed_dims
        rank = math.ceil(embed_dims / 16) if dt_rank == 'auto' else int(dt_rank)
        self.in_proj = nn.Linear(embed_dims, 2 * inner, bias=False)
        self.rows = DirectionalSSM(inner, states, rank, conv_size, 'input', backend)
        self.columns = DirectionalSSM(inner, states, rank, conv_size, 'output', backend)
        self.out_proj = nn.Linear(inner, embed_dims, bias=False)
        self.reset_out_proj()

    def reset_out_proj(self) -> None:
        """PyTorch's own initialisation of a linear layer, scaled by ``out_proj_scale``."""
        self.out_proj.reset_parameters()
        with torch.no_grad():
            self.out_proj.weight *= self.out_proj_scale

    def init_weights(self) -> None:
        """Initialise as configured, then put back ``out_proj``'s own initialisation."""
        first_time = not self.is_init
        super().init_weights()
        if first_time:
            self.reset_out_proj()

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of a map.

        Args:
            x: (B, H, W, D).

        Returns:
            (B, H, W, D).

        Raises:
            ValueError: If the geometry is the released one and the map is not square.
        """
        if self.geometry == 'released' and x.shape[1] != x.shape[2]:
            raise ValueError(
                "geometry='released' transposes its output and needs a square map, but got "
                f"{x.shape[1]} x {x.shape[2]} tokens; use geometry='paper'"
            )
        x, z = self.in_proj(x).chunk(2, dim=-1)
        y = self.rows(x, None, self.first)
        if self.geometry == 'released':
            return self.out_proj(self._released_sum(self.columns(y, z, self.second), z))
        y = self.columns(y, z, self.second, reduction='sum')
        return gated_linear(y, z, self.out_proj.weight, self.columns.backend)

    def _released_sum(self, y: Tensor, z: Tensor) -> Tensor:
        """Gate each branch, (K, B, H, W, E), flip it back as the released code does, and sum."""
        gated = (y * F.silu(z)).unbind()
        flipped = [one.flip(axes) for one, axes in zip(gated, self.flip, strict=True)]
        return sum(flipped[1:], flipped[0]).transpose(1, 2) / 2
