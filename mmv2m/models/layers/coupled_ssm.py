"""The exact 2D state space model from corners that share its parameters."""

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmv2m.ops import CornerGroup, coupled_scan, coupled_ssm

from .directional_ssm import CAUSAL_CONV
from .door import LINEAR, LINEAR_WITH_BIAS, Known, may_stand_for, unchanged
from .lanes import convolve_lanes
from .params import widen
from .time_steps import OwnTimeSteps, draw_time_steps

__all__ = ['CoupledSSM']


class CoupledSSM(OwnTimeSteps):
    """Convolutions along both axes, projections, and a scan of two coupled states (V2M, Eq. 6-8).

    It replaces a :class:`CornerSSM`, which drops the coupling (Eq. 9-12). From each corner, one
    causal convolution runs along the first direction and another one along the second, and a SiLU
    follows each. Each token then determines the time step, B and C of both states (Eq. 5), and
    :func:`mmv2m.ops.coupled_scan` walks over the map once. Where :func:`.may_stand_for` allows it,
    the operator :func:`mmv2m.ops.coupled_ssm` computes all of this.

    The shares of the two terms of each state add up to 1: ``w[0, 0] = sigmoid(m[0])`` and ``w[0, 1]
    = 1 - w[0, 0]``, ``w[1, 1] = sigmoid(m[1])`` and ``w[1, 0] = 1 - w[1, 1]``. So the states cannot
    grow, whatever is learned. All shares start at 1/2.

    Args:
        channels: Channels of the map, E.
        states: States per channel, N, of each of the two recurrences.
        dt_rank: Rank of each time step's projection, R.
        conv_size: Taps of the convolutions.
        group: The corners, over the whole map.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`. The time steps keep their own
            initialisation, as in a :class:`DirectionalSSM`.

    Raises:
        ValueError: If the group has windows.
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
        # It has one axis, as biases have, so that weight decay leaves it out.
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
            gate: Not read. A :class:`CornerSSM` has a gate between its two scans, but here there is
                only one scan.
            reduction: ``'sum'`` over the K corners, or ``'none'``.

        Returns:
            (B, H, W, E), or (K, B, H, W, E) if not summed. It is not gated.
        """
        corners = self.corners.corners
        if may_stand_for(self, x, ((self, COUPLED_SSM),)):
            convs, dt_projs = (
                [(layer.weight, layer.bias) for layer in layers]
                for layers in (self.convs, self.dt_projs)
            )
            layers = (convs, self.x_proj.weight, dt_projs)
            options = (corners, reduction, self.backend)
            return coupled_ssm(x, *layers, self.rates(), self.shares(), self.D, *options)
        maps = self._convolve(x)
        states = self.A_log.shape[-1]
        widths = [self.dt_rank, self.dt_rank, 2 * states, 2 * states]
        *steps, B, C = self.x_proj(maps).split(widths, dim=-1)
        delta = torch.stack(
            [linear(step) for linear, step in zip(self.dt_projs, steps, strict=True)]
        )
        delta, B, C = (part.to(maps.dtype) for part in (delta, B, C))
        sides = (side.unflatten(-1, (2, states)) for side in (B, C))
        y = coupled_scan(
            *(maps, delta, self.rates(), self.shares(), *sides, self.D),
            delta_softplus=True,
            corners=corners,
            backend=self.backend,
        )
        return y.sum(0, dtype=y.dtype) if reduction == 'sum' else y

    def rates(self) -> Tensor:
        """The rates A1 to A4, (2, 2, E, N), all of which are negative."""
        return -widen(self.A_log).exp()

    def shares(self) -> Tensor:
        """Share of each of the four terms, (2, 2, E). The two shares of a state add up to 1."""
        own = torch.sigmoid(widen(self.mix)).view(2, -1)
        first, second = own.unbind()
        return torch.stack((first, 1 - first, 1 - second, second)).view(2, 2, -1)

    def _convolve(self, x: Tensor) -> Tensor:
        """Convolve from each corner along its first direction and then along its second one.

        Args:
            x: (B, H, W, E).

        Returns:
            (K, B, H, W, E).
        """
        maps = [x] * len(self.corners.corners)
        for conv, directions in zip(
            self.convs, (self.corners.first, self.corners.second), strict=True
        ):
            pairs = zip(maps, directions, strict=True)
            maps = [F.silu(convolve_lanes(conv, one, self.conv_size, way)) for one, way in pairs]
        return torch.stack(maps)


CONVS = Known(unchanged(ModuleList), parts=(('0', CAUSAL_CONV), ('1', CAUSAL_CONV)))
DT_PROJS = Known(unchanged(ModuleList), parts=(('0', LINEAR_WITH_BIAS), ('1', LINEAR_WITH_BIAS)))

COUPLED_SSM = Known(
    unchanged(CoupledSSM),
    (('A_log', True), ('mix', True), ('D', True)),
    parts=(('convs', CONVS), ('x_proj', LINEAR), ('dt_projs', DT_PROJS)),
)
