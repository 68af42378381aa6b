"""Two-dimensional scans of one map from one corner: Mamba2D's own, and ours on its recurrence."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmv2m.ops import coupled_scan

__all__ = ['MeanOfNeighbours', 'coupled_scan_of_means']


class MeanOfNeighbours(nn.Module):
    r"""A scan whose state adds the mean of its two neighbours' decayed states.

    .. math::
        h_{i,j} = \tfrac12 (\exp(\Delta A_0) h_{i,j-1} + \exp(\Delta A_1) h_{i-1,j}) + \Delta B x

    All arguments except the input are parameters. The time steps are those after the softplus, and
    both neighbours share them.

    Args:
        function: The scan. It takes x (B, H, W, E), time steps like x, two rates (E, N), B and C
            (B, H, W, N) and D (E,), all of one dtype, and returns the output like x.
        size: B, H and W of the map.
        channels: Number of channels, E.
        states: Number of states, N.
        dtype: Dtype of the tensors that have tokens.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        size: tuple[int, int, int],
        channels: int,
        states: int,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        self.function = function
        steps = torch.randn(*size, channels).sub(4).exp()
        self.delta = nn.Parameter(steps.to(dtype))
        self.B, self.C = (nn.Parameter(torch.randn(*size, states).to(dtype)) for _ in range(2))
        rates = torch.arange(1.0, states + 1).expand(2, channels, states)
        self.A = nn.Parameter(-rates.to(dtype))
        self.D = nn.Parameter(torch.ones(channels, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Scan a map (B, H, W, E); the shape stays the same."""
        return self.function(x, self.delta, *self.A, self.B, self.C, self.D)


def coupled_scan_of_means(
    x: Tensor,
    delta: Tensor,
    along_rows: Tensor,
    along_columns: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
) -> Tensor:
    """Compute the recurrence with :func:`mmv2m.ops.coupled_scan`, whose two states are then equal.

    Args:
        x: The map, (B, H, W, E).
        delta: Time steps, as ``x``.
        along_rows: Rate at which the state of the neighbour in the same row decays, (E, N).
        along_columns: Rate for the neighbour in the same column, (E, N).
        B: Input matrices, (B, H, W, N).
        C: Output matrices, as ``B``.
        D: Weights of the skip connection, (E,).
    """
    rates = torch.stack((along_rows, along_columns)).float()
    return coupled_scan(
        x[None],
        delta.expand(2, 1, *delta.shape),
        rates.expand(2, *rates.shape),
        rates.new_full((2, 2, x.shape[-1]), 0.5),
        B[None, ..., None, :].expand(1, *B.shape[:-1], 2, -1),
        (C / 2)[None, ..., None, :].expand(1, *C.shape[:-1], 2, -1),
        D.float(),
    )[0]
