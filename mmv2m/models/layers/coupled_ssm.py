"""The exact 2D state space model from corners that share its parameters."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmv2m.ops import CornerGroup, Direction, coupled_scan, directional_conv

from .directional_ssm import CAUSAL_CONV
from .door import LINEAR_WITH_BIAS, may_stand_for
from .lanes import convolve_lanes
from .params import widen
from .time_steps import OwnTimeSteps, draw_time_steps

__all__ = ['CoupledSSM']


class CoupledSSM(OwnTimeSteps):
    """Convolutions along both axes, projections, and a scan of two coupled states (V2M, Eq. 6-8).

    It stands where a :class:`CornerSSM` stands, which drops the coupling (Eq. 9-12). From each
    corner, one causal convolution runs along the first direction and another one along the second,
    each with a SiLU behind it. Each token then gives time step, B and C of both states, as Eq. 5
    has it, and :func:`mmv2m.ops.coupled_scan` walks over the map once.

    The shares of the four terms are a softmax of two for each state: ``w[0, 0] = sigmoid(m[0])``
    and ``w[0, 1] = 1 - w[0, 0]``; ``w[1, 1] = sigmoid(m[1])`` and ``w[1, 0] = 1 - w[1, 1]``. So the
    states cannot grow, whatever is learned. All shares start at 1/2.

    Args:
        channels: Channels of the map, E.
        states: States a channel, N, of each of the two.
        dt_rank: Rank of each time step's projection, R.
        conv_size: Taps of the convolutions.
        group: The corners, over the whole map.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`. The time steps keep their own
            initialisation, as those of a :class:`DirectionalSSM` do.

    Raises:
        ValueError: If the group's corners are inside windows.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        dt_rank: int,
        conv_size: int,
        group: CornerGroup,
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if group.window:
            raise ValueError('the coupled recurrence has no windows: it scans whole maps')
        self.corners = group
        self.conv_size = conv_size
        self.dt_rank = dt_rank
        self.backend = backend
        self.convs = ModuleList(
            [nn.Conv1d(channels, channels, conv_size, groups=channels) for _ in range(2)]
        )
        self.x_proj = nn.Linear(channels, 2 * dt_rank + 4 * states, bias=False)
        self.dt_projs = ModuleList([nn.Linear(dt_rank, channels) for _ in range(2)])
        log = torch.arange(1.0, states + 1).log()
        self.A_log = nn.Parameter(log.expand(2, 2, channels, states).clone())
        # With one axis, as biases have, weight decay leaves it alone.
        self.mix = nn.Parameter(torch.zeros(2 * channels))
        self.D = nn.Parameter(torch.ones(channels))
        self.reset_time_step()

    def reset_time_step(self) -> None:
        """Draw both time steps anew; see :func:`draw_time_steps`."""
        for linear in self.dt_projs:
            draw_time_steps(linear.weight, linear.bias)

    def forward(self, x: Tensor, gate: Tensor | None, reduction: str = 'sum') -> Tensor:
        """Scan a map.

        Args:
            x: (B, H, W, E).
            gate: Not read. A :class:`CornerSSM` gates what its first scan hands to its second one,
                and here is one scan.
            reduction: ``'sum'`` over the K corners, or ``'none'``.

        Returns:
            (B, H, W, E), or (K, B, H, W, E) if not summed; not gated.
        """
        corners = self.corners.corners
        maps = self._convolve(x)
        states = self.A_log.shape[-1]
        widths = [self.dt_rank, self.dt_rank, 2 * states, 2 * states]
        *steps, B, C = self.x_proj(maps).split(widths, dim=-1)
        delta, bias = self._time_steps(steps)
        delta, B, C = (part.to(maps.dtype) for part in (delta, B, C))
        y = coupled_scan(
            maps,
            delta,
            -widen(self.A_log).exp(),
            self.shares(),
            B.unflatten(-1, (2, states)),
            C.unflatten(-1, (2, states)),
            D=self.D,
            delta_bias=bias,
            delta_softplus=True,
            corners=corners,
            backend=self.backend,
        )
        return y.sum(0) if reduction == 'sum' else y

    def _time_steps(self, steps: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Both time steps, (2, K, B, H, W, E), and what is still to be added to each, (2, E)."""
        linears = list(self.dt_projs)
        if not may_stand_for(self, steps[0], [(linear, LINEAR_WITH_BIAS) for linear in linears]):
            made = [linear(step) for linear, step in zip(linears, steps, strict=True)]
            return torch.stack(made), None
        made = [F.linear(step, linear.weight) for linear, step in zip(linears, steps, strict=True)]
        return torch.stack(made), torch.stack([linear.bias for linear in linears])

    def shares(self) -> Tensor:
        """Share of each of the four terms, (2, 2, E); each state's two add up to 1."""
        own = torch.sigmoid(widen(self.mix)).view(2, -1)
        first, second = own.unbind()
        return torch.stack((first, 1 - first, 1 - second, second)).view(2, 2, -1)

    def _convolve(self, x: Tensor) -> Tensor:
        """One convolution along the first direction of each corner, then one along the second."""
        group = self.corners
        for conv, directions in zip(self.convs, (group.first, group.second), strict=True):
            x = self._convolve_along(conv, x, directions)
        return x

    def _convolve_along(self, conv: Any, x: Tensor, directions: Sequence[Direction]) -> Tensor:
        """From one map for all corners, or one for each, (K, B, H, W, E), to one for each."""
        if may_stand_for(self, x, ((conv, CAUSAL_CONV),)):
            return directional_conv(x, conv.weight.flatten(1), conv.bias, directions, self.backend)
        maps = x if x.dim() == 5 else [x] * len(directions)
        pairs = zip(maps, directions, strict=True)
        made = [convolve_lanes(conv, one, self.conv_size, direction) for one, direction in pairs]
        return F.silu(torch.stack(made))
