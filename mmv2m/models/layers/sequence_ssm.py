"""Selective scans over one sequence, each with parameters of its own."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmv2m.ops import directional_ssm

from .time_steps import draw_time_steps

__all__ = ['SequenceSSM', 'as_sequence']


def as_sequence(x: Tensor) -> Tensor:
    """Reshape a map, (B, H, W, E), to (B, 1, H * W, E), which is a view if ``x`` is contiguous."""
    return x.reshape(x.shape[0], 1, x.shape[1] * x.shape[2], x.shape[3])


class SequenceSSM(BaseModule):
    """The sum of K scans over a sequence, forwards or backwards, each with its own parameters.

    Each scan has ``[dt, B, C] = x_proj @ x`` and ``delta = softplus(dt_proj @ dt + dt_bias)``, as
    in Mamba. Mamba's convolution and gate are left to the caller. Each parameter is one tensor with
    the parts of all scans, one after the other.

    Args:
        channels: Channels of the sequence, E.
        states: States per channel, N.
        dt_rank: Rank of the time step's projection, R.
        directions: ``'right'`` (forwards) or ``'left'`` (backwards) for each of the K scans.
        backend: Backend of the operators.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        dt_rank: int,
        directions: Sequence[str] = ('right',),
        backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.directions = tuple(directions)
        self.backend = backend
        scans = len(self.directions)
        self.x_proj = nn.Parameter(torch.empty(scans * (dt_rank + 2 * states), channels))
        self.dt_proj = nn.Parameter(torch.empty(scans * channels, dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(scans * channels))
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(scans * channels, 1))
        self.D = nn.Parameter(torch.ones(scans * channels))
        nn.init.uniform_(self.x_proj, -(channels**-0.5), channels**-0.5)
        draw_time_steps(self.dt_proj, self.dt_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, 1, L, E) into one of the same shape, summed over the scans."""
        outputs = [
            directional_ssm(
                x,
                None,
                None,
                None,
                *parameters,
                (direction,),
                projects='both',
                reduction='sum',
                backend=self.backend,
                log_A=True,
            )
            for parameters, direction in zip(self._of_each_scan(), self.directions, strict=True)
        ]
        return sum(outputs[1:], outputs[0])

    def _of_each_scan(self) -> Iterable[tuple[Tensor, ...]]:
        """Each scan's ``x_proj, dt_proj, dt_bias, A_log, D``."""
        joined = (self.x_proj, self.dt_proj, self.dt_bias, self.A_log, self.D)
        scans = len(self.directions)
        # A cut would cost an autograd node per parameter, and a copy of its gradient.
        return [joined] if scans == 1 else zip(*(p.chunk(scans) for p in joined), strict=True)
