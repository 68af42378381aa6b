"""One half of the 2D SSM: a selective scan along rows or columns with its own parameters."""

import math

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmv2m.ops import directional_conv, directional_scan

__all__ = ['DirectionalConv', 'DirectionalSSM']

DT_MIN, DT_MAX = 1e-3, 1e-1
"""Range of the time steps at initialisation (Mamba, section 3.6)."""


class DirectionalConv(nn.Module):
    """Causal depthwise convolution along a direction chosen at each call, then SiLU.

    Args:
        channels: Channels of the map, E.
        taps: Width of the convolution, K.
        backend: Backend of the operator.
    """

    def __init__(self, channels: int, taps: int = 4, backend: str = 'auto') -> None:
        super().__init__()
        self.backend = backend
        bound = taps**-0.5  # PyTorch's own bound for a convolution with one input channel
        self.weight = nn.Parameter(torch.empty(channels, taps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(self, x: Tensor, direction: str) -> Tensor:
        """(B, H, W, E) to (B, H, W, E)."""
        return directional_conv(x, self.weight, self.bias, direction, self.backend)


class DirectionalSSM(BaseModule):
    """Convolution, input-dependent time step and projection, selective scan and gate.

    The first scan of a 2D SSM projects its input (``projects='input'``: B depends on the token, C
    is the constant 1, Eq. 9 and 11), the second one its output (``projects='output'``: B is the
    constant 1, C depends on the token, Eq. 12).

    Args:
        channels: Channels of the map, E.
        states: States a channel, N.
        dt_rank: Rank of the time step's projection, R.
        conv_size: Taps of the convolution.
        projects: ``'input'`` or ``'output'``.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`. The time step's projection keeps its own
            initialisation whatever is configured here or above: the model does not train without.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        dt_rank: int,
        conv_size: int = 4,
        projects: str = 'input',
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if projects not in ('input', 'output'):
            raise ValueError(f"projects must be 'input' or 'output', but got {projects!r}")
        self.projects = projects
        self.backend = backend
        self.sizes = (dt_rank, states)
        self.conv = DirectionalConv(channels, conv_size, backend)
        self.x_proj = nn.Linear(channels, dt_rank + states, bias=False)
        self.dt_proj = nn.Linear(dt_rank, channels)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        self.reset_time_step()

    def reset_time_step(self) -> None:
        """Draw time steps log-uniform in [DT_MIN, DT_MAX], and weights that keep their variance."""
        bound = self.dt_proj.in_features**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        with torch.no_grad():
            self.dt_proj.bias.uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp_()
            inverse_softplus = self.dt_proj.bias + (-(-self.dt_proj.bias).expm1()).log()
            self.dt_proj.bias.copy_(inverse_softplus)

    def init_weights(self) -> None:
        """Initialise as configured, then put back the time step's own initialisation."""
        first_time = not self.is_init
        super().init_weights()
        if first_time:
            self.reset_time_step()

    def forward(self, x: Tensor, z: Tensor, direction: str) -> Tensor:
        """Scan a map.

        Args:
            x: (B, H, W, E).
            z: Gate, (B, H, W, E).
            direction: Way of the scan.

        Returns:
            (B, H, W, E) in the dtype of ``x``.
        """
        x = self.conv(x, direction)
        dt, projection = self.x_proj(x).split(self.sizes, dim=-1)
        side = 'B' if self.projects == 'input' else 'C'
        A_log = self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32))
        return directional_scan(
            x,
            F.linear(dt, self.dt_proj.weight),
            -A_log.exp(),
            D=self.D,
            z=z,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
            direction=direction,
            backend=self.backend,
            **{side: projection},
        )
