"""Selective scans over one sequence, each with parameters of its own."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmv2m.ops import directional_scan
from mmv2m.ops.precision import without_autocast

from .directional_ssm import draw_time_steps

__all__ = ['SequenceSSM', 'as_sequence']


def as_sequence(x: Tensor) -> Tensor:
    """A map, (B, H, W, E), row by row: (B, 1, H * W, E), a view where ``x`` is contiguous."""
    return x.reshape(x.shape[0], 1, -1, x.shape[-1])


class SequenceSSM(BaseModule):
    """The sum of K scans over a sequence, forwards or backwards, each with its own parameters.

    For each scan ``[dt, B, C] = x_proj @ x`` and ``delta = softplus(dt_proj @ dt + dt_bias)``, as
    in Mamba, whose convolution and gate are left to the caller. Parameters of all scans lie in one
    tensor, one scan after the other.

    Args:
        channels: Channels of the sequence, E.
        states: States a channel, N.
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
        self.sizes = [dt_rank, states, states]
        scans = len(self.directions)
        self.x_proj = nn.Parameter(torch.empty(scans * sum(self.sizes), channels))
        self.dt_proj = nn.Parameter(torch.empty(scans * channels, dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(scans * channels))
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(scans * channels, 1))
        self.D = nn.Parameter(torch.ones(scans * channels))
        nn.init.uniform_(self.x_proj, -(channels**-0.5), channels**-0.5)
        draw_time_steps(self.dt_proj, self.dt_bias)

    def project(self, x: Tensor) -> list[dict[str, Tensor]]:
        """What each scan takes besides its input.

        Args:
            x: (..., E).

        Returns:
            For each scan :func:`mmv2m.ops.directional_scan`'s ``delta, A, B, C, D, delta_bias``.
        """
        scans = len(self.directions)
        A_log = self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32))
        constant = dict(A=-A_log.exp(), D=self.D, delta_bias=self.dt_bias)
        inputs = []
        # The operators take one dtype; an autocast here would bring a second one in.
        with without_autocast(x):
            projected = F.linear(x, self.x_proj.to(x.dtype)).chunk(scans, -1)
            dt_proj = self.dt_proj.to(x.dtype).chunk(scans)
            for k in range(scans):
                dt, B, C = projected[k].split(self.sizes, -1)
                own = {name: value.chunk(scans)[k] for name, value in constant.items()}
                inputs.append(dict(delta=F.linear(dt, dt_proj[k]), B=B, C=C, **own))
        return inputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, L, E) to (B, 1, L, E), summed over the scans."""
        outputs = [
            directional_scan(
                x, **inputs, delta_softplus=True, direction=direction, backend=self.backend
            )
            for inputs, direction in zip(self.project(x), self.directions, strict=True)
        ]
        return sum(outputs[1:], outputs[0])
