"""One half of the 2D SSM: the parameters of the scans along rows, or along columns."""

import math
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmv2m.ops import directional_ssm

__all__ = ['DirectionalSSM', 'draw_time_steps']

SIDES = dict(input=1, output=1, both=2)
"""How many of B and C depend on the token."""

DT_MIN, DT_MAX = 1e-3, 1e-1
"""Range of the time steps at initialisation (Mamba, section 3.6)."""


def draw_time_steps(weight: Tensor, bias: Tensor) -> None:
    """Initialise a time step's projection in place.

    The steps are drawn log-uniform in [DT_MIN, DT_MAX], the weights such that they keep their
    variance.

    Args:
        weight: (..., R).
        bias: (...).
    """
    bound = weight.shape[-1] ** -0.5
    nn.init.uniform_(weight, -bound, bound)
    with torch.no_grad():
        bias.uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp_()
        bias.copy_(bias + (-(-bias).expm1()).log())  # the inverse of the softplus


class DirectionalSSM(BaseModule):
    """Convolution, input-dependent time step and projection, selective scan and gate.

    The first scan of a 2D SSM projects its input (``projects='input'``: B depends on the token, C
    is the constant 1, Eq. 9 and 11), the second one its output (``projects='output'``: B is the
    constant 1, C depends on the token, Eq. 12). Mamba's SSM projects both.

    Args:
        channels: Channels of the map, E.
        states: States a channel, N.
        dt_rank: Rank of the time step's projection, R.
        conv_size: Taps of the convolution.
        projects: ``'input'``, ``'output'`` or ``'both'``.
        backend: Backend of the operators.
        draw_steps: Whether the time step's projection starts as :func:`draw_time_steps` says, and
            keeps that whatever ``init_cfg`` is configured here or above. If not, it starts as any
            linear layer does, its bias at zero.
        init_cfg: See :class:`mmengine.model.BaseModule`.
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

    def init_weights(self) -> None:
        """Initialise as configured, then put back the time step's own initialisation."""
        first_time = not self.is_init
        super().init_weights()
        if first_time:
            self.reset_time_step()

    def forward(
        self,
        x: Tensor,
        gate: Tensor | None,
        directions: Sequence[str],
        reduction: str = 'none',
    ) -> Tensor:
        """Scan a map in several directions; see :func:`mmv2m.ops.directional_ssm`.

        Args:
            x: (B, H, W, E), the same for all K directions, or (K, B, H, W, E).
            gate: (B, H, W, E), whose SiLU multiplies ``x``; or None.
            directions: Ways of the scans.
            reduction: ``'none'``, or ``'sum'`` over the directions.

        Returns:
            (K, B, H, W, E), or (B, H, W, E) if summed, in the dtype of ``x``.
        """
        options = (directions, self.projects, reduction, self.backend)
        return directional_ssm(x, gate, *self.tensors(), *options, log_A=True)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """What the operators take of the parameters, with the logarithm of A."""
        layers = self._modules
        conv, dt_proj = layers['conv'], layers['dt_proj']
        return (
            *(_find(conv, 'weight'), _find(conv, 'bias'), _find(layers['x_proj'], 'weight')),
            *(_find(dt_proj, 'weight'), _find(dt_proj, 'bias')),
            *(_find(self, 'A_log'), _find(self, 'D')),
        )


def _find(module: nn.Module, name: str) -> Tensor | None:
    """A parameter, faster than by its attribute; or what pruning, say, has put in its place."""
    parameter = module._parameters.get(name)
    return getattr(module, name) if parameter is None else parameter
