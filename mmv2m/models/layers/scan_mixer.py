"""The mixer of Vim and LocalVim: Mamba's scans over the sequence of tokens, in several orders."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from .directional_ssm import DirectionalSSM
from .out_projection import OutProjection, project_gated
from .scan_attention import ScanAttention
from .scan_orders import parse_scans, to_map, to_sequence

__all__ = ['ScanMixer']


class ScanMixer(BaseModule):
    """Mamba's state space model over a map's tokens in several orders.

    It computes ``out_proj(merge(scan(x) * SiLU(z) for each scan))`` with ``x, z = in_proj(map)``.
    Each scan has its own parameters. Vim (https://arxiv.org/abs/2401.09417) reads the tokens
    forwards and backwards, and merges the outputs by their mean. LocalVim
    (https://arxiv.org/abs/2403.09338) reads them in four orders, and merges the outputs by
    attention over channels. Projections and gates act on single tokens, so they run in the map's
    order, and the gate of a mean runs once.

    Args:
        embed_dims: Width of the map, D.
        scans: Names of the orders; see :func:`parse_scans`.
        expand: Inner width E over D.
        states: States per channel, N.
        conv_size: Taps of the convolutions.
        dt_rank: Rank of the time step's projection, R; ``'auto'`` for ceil(D / 16).
        attention: Whether :class:`ScanAttention` weighs the scans' channels before they are summed.
            If not, the mean of the scans is taken.
        drawn_steps: Names of the scans whose time steps start as in Mamba; see
            :class:`DirectionalSSM`.
        out_proj_scale: Factor on the initial weights of ``out_proj``.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`. ``out_proj`` and the drawn time steps keep
            their own initialisation whatever is configured here or above.

    Raises:
        ValueError: If :func:`parse_scans` refuses ``scans``.
    """

    def __init__(
        self,
        embed_dims: int,
        scans: Sequence[str] = ('h', 'h_flip'),
        expand: int = 2,
        states: int = 16,
        conv_size: int = 4,
        dt_rank: int | str = 'auto',
        attention: bool = False,
        drawn_steps: Sequence[str] = (),
        out_proj_scale: float = 1.0,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.orders = parse_scans(scans)
        self.backend = backend
        inner = expand * embed_dims
        rank = math.ceil(embed_dims / 16) if dt_rank == 'auto' else int(dt_rank)
        self.in_proj = nn.Linear(embed_dims, 2 * inner, bias=False)
        self.scans = ModuleList(
            DirectionalSSM(inner, states, rank, conv_size, 'both', backend, name in drawn_steps)
            for name in scans
        )
        self.attention = ScanAttention(inner) if attention else None
        self.out_proj = OutProjection(inner, embed_dims, out_proj_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one of the same shape."""
        x, z = self.in_proj(x).chunk(2, dim=-1)
        outputs = self._scan(x)
        if self.attention is None:
            total, count = sum(outputs[1:], outputs[0]), len(outputs)
            return project_gated(self, total, z, self.out_proj, self.backend, divisor=count)
        gate = F.silu(z)
        weighted = [self.attention(y * gate) for y in outputs]
        return self.out_proj(sum(weighted[1:], weighted[0]))

    def _scan(self, x: Tensor) -> list[Tensor]:
        """Compute each scan's output, (B, H, W, E), without the gate."""
        # A scan and its flip read the same sequence, so each layout is made once.
        sequences: dict[tuple[str, int], Tensor] = {}
        outputs = []
        for scan, order in zip(self.scans, self.orders, strict=True):
            key = (order.layout, order.side)
            if key not in sequences:
                sequences[key] = to_sequence(x, order)
            y = scan(sequences[key], None, (order.direction,), reduction='sum')
            outputs.append(to_map(y, order, (x.shape[1], x.shape[2])))
        return outputs
