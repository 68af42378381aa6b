"""The 2D state space model from corners that share its parameters, over a map or inside windows."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmv2m.ops import CornerGroup, Group, corner_ssm

from .directional_ssm import DIRECTIONAL_SSM, DirectionalSSM
from .door import Known, may_stand_for, unchanged
from .sizes import is_known

__all__ = ['CORNER_SSM', 'CornerSSM', 'WindowSSM', 'build_corner_ssm']


class CornerSSM(BaseModule):
    """``columns(rows(x) * SiLU(gate))`` from each corner, summed (V2M, Eq. 7-15).

    Args:
        channels: Channels of the map, E.
        states: States per channel, N.
        dt_rank: Rank of the time step's projection, R.
        conv_size: Taps of the convolutions.
        group: The corners.
        backend: Backend of the operators.
        projects: With ``'one'``, B of ``rows`` and C of ``columns`` depend on the token, and the
            other two are the constant 1. With ``'both'``, all four depend on the token.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        dt_rank: int,
        conv_size: int,
        group: CornerGroup,
        backend: str = 'auto',
        projects: str = 'one',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.corners = group
        self.backend = backend
        self.projects = projects
        sides = ('input', 'output') if projects == 'one' else ('both', 'both')
        self.rows, self.columns = (
            DirectionalSSM(channels, states, dt_rank, conv_size, side, backend) for side in sides
        )

    def forward(self, x: Tensor, gate: Tensor | None, reduction: str = 'sum') -> Tensor:
        """Scan a map.

        Args:
            x: (B, H, W, E).
            gate: (B, H, W, E), whose SiLU multiplies the output of ``rows``; or None.
            reduction: ``'sum'`` over the K corners, or ``'none'``.

        Returns:
            (B, H, W, E), or (K, B, H, W, E) if not summed. The output of ``columns`` is not gated.
        """
        # The operator for both scans projects one side of each. With both sides, each scan is an
        # operator of its own.
        if self.projects == 'one' and may_stand_for(self, x, ((self, CORNER_SSM),)):
            return corner_ssm(x, gate, [self.group()], reduction, self.backend, log_A=True)
        y = self.rows(x, None, self.corners.first)
        return self.columns(y, gate, self.corners.second, reduction)

    def group(self) -> Group:
        """The corners and parameters in the form in which fused operators take them."""
        return Group(self.rows.tensors(), self.columns.tensors(), self.corners)


CORNER_SSM = Known(
    unchanged(CornerSSM), parts=(('rows', DIRECTIONAL_SSM), ('columns', DIRECTIONAL_SSM))
)


class WindowSSM(CornerSSM):
    """A :class:`CornerSSM` inside each window of ``group.window`` tokens square.

    Windows lie side by side from the upper-left corner. A map into which they do not fit is padded
    with zeros, at the bottom and the right, to whole windows. The results there are cut off.

    The first scans of all corners have to walk along one axis, as the scans of opposite corners do.
    A view then cuts the map's lanes into windows: a row of W tokens becomes W / window rows, and a
    column of H tokens becomes H / window columns. Nothing is copied, except for padding.

    Raises:
        ValueError: If the first scans walk along different axes.
    """

    def __init__(
        self,
        channels: int,
        states: int,
        dt_rank: int,
        conv_size: int,
        group: CornerGroup,
        backend: str = 'auto',
        projects: str = 'one',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(channels, states, dt_rank, conv_size, group, backend, projects, init_cfg)
        axes = {direction.axis for direction in group.first}
        if len(axes) > 1:
            raise ValueError(
                'in windows, the corners that share parameters must be opposite '
                f'corners; but the first scans walk {", ".join(d.name for d in group.first)}'
            )
        self.axis = axes.pop()

    def forward(self, x: Tensor, gate: Tensor | None, reduction: str = 'sum') -> Tensor:
        """See :meth:`CornerSSM.forward`."""
        height, width = x.shape[1:3]
        window, ways, second_ways = self.corners.window, self.corners.first, self.corners.second
        x = pad_to_windows(x, window)
        first, second = self.axis, 3 - self.axis
        y = self.rows(split_lanes(x, window, first), None, ways)
        y = split_lanes(y.reshape(len(ways), *x.shape), window, second)
        if gate is not None:
            gate = split_lanes(pad_to_windows(gate, window), window, second)
        y = self.columns(y, gate, second_ways, reduction)
        return y.reshape(*y.shape[:-4], *x.shape)[..., :height, :width, :]


def pad_to_windows(x: Tensor, window: int) -> Tensor:
    """Pad a (B, H, W, E) map with zeros at the bottom and the right, up to whole windows."""
    below, right = (-side % window for side in x.shape[1:3])
    if is_known(below == 0) and is_known(right == 0):
        return x
    return F.pad(x, (0, 0, 0, right, 0, below))


def split_lanes(x: Tensor, window: int, axis: int) -> Tensor:
    """View a map so that its rows (axis 2) or columns (axis 1) are as long as its windows.

    Args:
        x: (..., B, H, W, E); ``window`` divides H and W.
        window: Side of the windows in tokens.
        axis: 2 to cut rows, 1 to cut columns.

    Returns:
        (..., B, H * W / window, window, E), or (..., B * H / window, window, W, E).
    """
    *lead, batch, height, width, channels = x.shape
    if axis == 2:
        return x.reshape(*lead, batch, height * (width // window), window, channels)
    return x.reshape(*lead, batch * (height // window), window, width, channels)


def build_corner_ssm(
    channels: int,
    states: int,
    dt_rank: int,
    conv_size: int,
    group: CornerGroup,
    backend: str,
    projects: str = 'one',
) -> CornerSSM:
    """Build the module for a group of corners, over the whole map or inside windows."""
    kind = WindowSSM if group.window else CornerSSM
    return kind(channels, states, dt_rank, conv_size, group, backend, projects)
