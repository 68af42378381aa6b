"""PlainMamba's mixer: four continuous scans that know the direction of each step."""

import math

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmv2m.ops import directional_scan
from mmv2m.ops.precision import without_autocast

from .map_conv import MapConv2d
from .out_projection import project_gated
from .params import widen
from .sequence_ssm import SequenceSSM, as_sequence
from .sizes import is_known
from .snake import MOVES, Snake, merge, snake, spread

__all__ = ['SnakeScanMixer', 'SnakeSSM']


class SnakeSSM(SequenceSSM):
    """The sum of scans in four continuous orders, which share their parameters.

    A learned vector for the direction of a step is added to its B (direction-aware updating, Eq. 5
    and 6 of the paper). As in the official code, only the input is put in the four orders. The time
    step, B and C of step t come from the t-th token row by row, whichever token the step visits.

    Args:
        channels: Channels of the map, E.
        states: States per channel, N.
        dt_rank: Rank of the time step's projection, R.
        grid_size: H and W for which the orders are kept. For other sizes they are made in each
            pass.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        dt_rank: int,
        grid_size: tuple[int, int],
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(channels, states, dt_rank, backend=backend, init_cfg=init_cfg)
        # The authors' config initialises all linear layers like this, including the time step's.
        for weight in (self.x_proj, self.dt_proj):
            nn.init.trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.dt_bias)
        self.direction_embed = nn.Parameter(torch.empty(len(MOVES), states))
        nn.init.trunc_normal_(self.direction_embed, std=0.02)
        self.grid_size = tuple(grid_size)
        for name, value in snake(*grid_size)._asdict().items():
            self.register_buffer(name, value, persistent=False)
        self.register_load_state_dict_post_hook(_renew_orders)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, E) into one of the same shape, summed over the orders."""
        order = self._order((x.shape[1], x.shape[2]), x.device)
        tokens = as_sequence(x)
        delta, B, C = self._project(tokens)
        four = (-1, len(order.order), -1, -1)
        y = directional_scan(
            spread(tokens[:, 0], order),
            delta.expand(four),
            -widen(self.A_log).exp(),
            B + F.embedding(order.move, self.direction_embed).to(x.dtype),
            C.expand(four),
            self.D,
            delta_bias=self.dt_bias,
            delta_softplus=True,
            backend=self.backend,
        )
        return merge(y, order).view(x.shape)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the time step before bias and softplus, B and C of each token."""
        rank, states = self.dt_proj.shape[1], self.A_log.shape[1]
        # The operator takes tensors of one dtype, and an autocast here would add a second one.
        with without_autocast(x):
            projected = F.linear(x, self.x_proj.to(x.dtype))
            dt, B, C = projected.split([rank, states, states], -1)
            return F.linear(dt, self.dt_proj.to(x.dtype)), B, C

    def _order(self, size: tuple[int, int], device: torch.device) -> Snake:
        if all(is_known(a == b) for a, b in zip(size, self.grid_size, strict=True)):
            return Snake(self.order, self.inverse, self.move)
        return snake(*size, device)


def _renew_orders(module: SnakeSSM, _: object) -> None:
    """Make the orders again when weights are loaded.

    They are no weights. In a model that was built without memory, by ``torch.device('meta')`` or
    ``to_empty``, nothing else would give them their values.
    """
    height, width = module.grid_size
    for name, value in snake(height, width, module.A_log.device)._asdict().items():
        setattr(module, name, value)


class SnakeScanMixer(BaseModule):
    """PlainMamba's block (https://arxiv.org/abs/2403.17695, Fig. 3) without norm and residual.

    Args:
        embed_dims: Width of the map, D.
        grid_size: The usual H and W of the map.
        expand: Inner width E over D.
        states: States per channel, N.
        conv_size: Side of the depthwise convolution.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        grid_size: tuple[int, int],
        expand: int = 2,
        states: int = 16,
        conv_size: int = 7,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backend = backend
        inner = expand * embed_dims
        rank = math.ceil(embed_dims / 16)
        self.in_proj = nn.Linear(embed_dims, 2 * inner)
        self.conv = MapConv2d(inner, inner, conv_size, padding=conv_size // 2, groups=inner)
        self.ssm = SnakeSSM(inner, states, rank, grid_size, backend)
        self.out_proj = nn.Linear(inner, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one of the same shape."""
        x, z = self.in_proj(x).chunk(2, -1)
        y = self.ssm(F.silu(self.conv(x)))
        return project_gated(self, y, z, self.out_proj, self.backend)
