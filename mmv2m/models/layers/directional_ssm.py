"""One half of the 2D SSM: the parameters of the scans along rows, or along columns."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmv2m.ops import Direction, directional_scan, directional_ssm

from .door import LINEAR, LINEAR_WITH_BIAS, Known, may_stand_for, unchanged
from .lanes import convolve_lanes
from .params import widen
from .time_steps import OwnTimeSteps, draw_time_steps

__all__ = ['CAUSAL_CONV', 'DIRECTIONAL_SSM', 'DirectionalSSM']

SIDES = dict(input=1, output=1, both=2)
"""Number of B and C that depend on the token, by the value of ``projects``."""


class DirectionalSSM(OwnTimeSteps):
    """Convolution, input-dependent time step and projection, selective scan and gate.

    The first scan of a 2D SSM projects its input: with ``projects='input'``, B depends on the token
    and C is the constant 1 (Eq. 9 and 11). The second scan projects its output: with
    ``projects='output'``, B is the constant 1 and C depends on the token (Eq. 12). Mamba's SSM
    projects both.

    Args:
        channels: Channels of the map, E.
        states: States per channel, N.
        dt_rank: Rank of the time step's projection, R.
        conv_size: Taps of the convolution.
        projects: ``'input'``, ``'output'`` or ``'both'``.
        backend: Backend of the operators.
        draw_steps: Whether :func:`draw_time_steps` initialises the time step's projection, whatever
            ``init_cfg`` is configured here or above. If not, its weight starts as any linear
            layer's, and its bias at zero.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If ``projects`` is unknown.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        dt_rank: int,
        conv_size: int = 4,
        projects: str = 'input',
        backend: str = 'auto',
        draw_steps: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if projects not in SIDES:
            raise ValueError(f'projects must be one of {", ".join(SIDES)}, but got {projects!r}')
        self.projects = projects
        self.conv_size = conv_size
        self.dt_rank = dt_rank
        self.backend = backend
        self.draw_steps = draw_steps
        self.conv = nn.Conv1d(channels, channels, conv_size, groups=channels)
        self.x_proj = nn.Linear(channels, dt_rank + SIDES[projects] * states, bias=False)
        self.dt_proj = nn.Linear(dt_rank, channels)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        nn.init.zeros_(self.dt_proj.bias)
        self.reset_time_step()

    def reset_time_step(self) -> None:
        """Draw the time steps anew, if they are drawn; see :func:`draw_time_steps`."""
        if self.draw_steps:
            draw_time_steps(self.dt_proj.weight, self.dt_proj.bias)

    def forward(
        self,
        x: Tensor,
        gate: Tensor | None,
        directions: Sequence[str | Direction],
        reduction: str = 'none',
    ) -> Tensor:
        """Scan a map in several directions, which share their parameters.

        Args:
            x: (B, H, W, E), the same for all K directions, or (K, B, H, W, E).
            gate: (B, H, W, E), whose SiLU multiplies ``x``; or None.
            directions: Direction of each scan: a name in :data:`mmv2m.ops.DIRECTIONS` or a
                :class:`~mmv2m.ops.Direction`.
            reduction: ``'none'``, or ``'sum'`` over the directions.

        Returns:
            (K, B, H, W, E), or (B, H, W, E) if summed, in the dtype of ``x``.
        """
        if may_stand_for(self, x, ((self, DIRECTIONAL_SSM),)):
            options = (directions, self.projects, reduction, self.backend)
            return directional_ssm(x, gate, *self.tensors(), *options, log_A=True)
        if gate is not None:
            x = x * F.silu(gate)
        maps = x if x.dim() == 5 else [x] * len(directions)
        outputs = [self._scan(one, way) for one, way in zip(maps, directions, strict=True)]
        return sum(outputs[1:], outputs[0]) if reduction == 'sum' else torch.stack(outputs)

    def _scan(self, x: Tensor, direction: str | Direction) -> Tensor:
        """Scan a (B, H, W, E) map in one direction, module by module (V2M, Eq. 9 and 12)."""
        x = F.silu(convolve_lanes(self.conv, x, self.conv_size, direction))
        states = self.A_log.shape[1]
        widths = [self.dt_rank, *[states] * SIDES[self.projects]]
        dt, *sides = self.x_proj(x).split(widths, dim=-1)
        delta, *sides = (part.to(x.dtype) for part in (self.dt_proj(dt), *sides))
        return directional_scan(
            x,
            delta,
            -widen(self.A_log).exp(),
            B=None if self.projects == 'output' else sides[0],
            C=None if self.projects == 'input' else sides[-1],
            D=self.D,
            delta_softplus=True,
            direction=direction,
            backend=self.backend,
        )

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors that fused operators read, with the logarithm of A."""
        # This is much faster than attributes. The caller has asked the door (door.py), so the
        # modules hold plain parameters.
        layers, own = self._modules, self._parameters
        conv, dt_proj = layers['conv']._parameters, layers['dt_proj']._parameters
        return (
            *(conv['weight'], conv['bias'], layers['x_proj']._parameters['weight']),
            *(dt_proj['weight'], dt_proj['bias'], own['A_log'], own['D']),
        )


CAUSAL_CONV = Known(
    unchanged(nn.Conv1d),
    (('weight', True), ('bias', None)),
    (('stride', (1,)), ('padding', (0,)), ('dilation', (1,))),
)

DIRECTIONAL_SSM = Known(
    unchanged(DirectionalSSM),
    (('A_log', True), ('D', True)),
    parts=(('conv', CAUSAL_CONV), ('x_proj', LINEAR), ('dt_proj', LINEAR_WITH_BIAS)),
)
