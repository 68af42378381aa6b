"""FLOPs of this project's operators, from the shapes of their arguments."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Size

from mmv2m.ops.directions import read_corners, read_directions, write_directions
from mmv2m.ops.groups import unpack_groups

__all__ = ['OperatorFlops']


class OperatorFlops:
    """The rules of PyTorch's FLOP counter for operators of this project.

    Each rule is called with an operator's arguments, in which shapes replace tensors. It returns
    the FLOPs of matrix products and convolutions, two for each multiply-accumulate. It adds the
    multiply-accumulates of scans to :attr:`scans`.

    Attributes:
        scans: Multiply-accumulates of all scans that have been counted.
    """

    def __init__(self) -> None:
        self.scans = 0

    def rules(self) -> dict[Any, Callable[..., int]]:
        """The rules by operator, for ``custom_mapping`` of PyTorch's counter."""
        ops = torch.ops.mmv2m
        return {
            ops.directional_scan: self.scan,
            ops.coupled_scan: self.coupled_scan,
            ops.coupled_ssm: self.coupled_ssm,
            ops.directional_conv: self.conv,
            ops.directional_convs: self.convs,
            ops.directional_ssm: self.ssm,
            ops.corner_ssm: self.corner_ssm,
            ops.ss2d: self.ss2d,
            ops.ss2d_inference: self.ss2d,
            ops.gated_linear: self.gated_linear,
            ops.mlp: self.mlp,
        }

    def scan(self, x: Size, delta: Any, A: Size, *args: Any, **kwargs: Any) -> int:
        """Count one scan."""
        self.scans += 9 * x.numel() * A[-1]
        return 0

    def coupled_scan(self, x: Size, delta: Any, A: Size, *args: Any, **kwargs: Any) -> int:
        """Count a scan of two coupled states, each as a scan and 6 more for the coupling.

        The 6 are the second decay's argument and exponential, both terms' shares, and the second
        term's product and sum.
        """
        self.scans += 2 * 15 * x.numel() * A[-1]
        return 0

    def conv(self, x: Size, weight: Size, *args: Any, **kwargs: Any) -> int:
        """Count a convolution in one direction."""
        return 2 * x.numel() * weight[-1]

    def convs(
        self, x: Size, weight: Size, bias: Any, directions: str, *args: Any, **kwargs: Any
    ) -> int:
        """Count convolutions in several directions, of one map or of one map per direction."""
        return len(read_directions(directions)) * self.conv(Size(x[-4:]), weight)

    def ssm(self, x: Size, *args: Any, **kwargs: Any) -> int:
        """Count convolution, projections and scan in several directions."""
        _, conv_weight, _, x_proj, dt_proj, _, A, _, directions = args[:9]
        tokens = len(read_directions(directions)) * Size(x[-4:]).numel()
        self.scans += 9 * tokens * A[-1]
        taps = 0 if conv_weight is None else conv_weight[-1]
        return 2 * tokens * (taps + x_proj[0] + dt_proj[-1])

    def coupled_ssm(
        self, x: Size, parameters: Sequence[Any], corners: str, *args: Any, **kwargs: Any
    ) -> int:
        """Count convolutions along both axes, projections and the scan, from each corner."""
        conv, _, second, _, x_proj, dt_proj, second_dt, _, A, *_ = parameters
        maps = Size((len(read_corners(corners)[0].corners), *x))
        self.coupled_scan(maps, None, A)
        return 2 * maps.numel() * (conv[-1] + second[-1] + x_proj[0] + dt_proj[-1] + second_dt[-1])

    def corner_ssm(self, x: Size, gate: Any, *args: Any, **kwargs: Any) -> int:
        """Count both scans of all groups of corners."""
        return sum(
            self.ssm(x, None, *parameters, write_directions(directions))
            for rows, columns, corners in unpack_groups(*args[:2])
            for parameters, directions in ((rows, corners.first), (columns, corners.second))
        )

    def ss2d(self, x: Size, in_weight: Size, out_weight: Size, *args: Any, **kwargs: Any) -> int:
        """Count the 2D SSM and two linear layers."""
        scanned = Size((*x[:-1], out_weight[1]))
        products = _product(x, in_weight) + _product(scanned, out_weight)
        return products + self.corner_ssm(scanned, None, *args[2:])

    def gated_linear(self, x: Size, z: Any, weight: Size, *args: Any, **kwargs: Any) -> int:
        """Count the linear layer behind a gate."""
        return _product(x, weight)

    def mlp(self, x: Size, parameters: Sequence[Any], *args: Any, **kwargs: Any) -> int:
        """Count two linear layers."""
        weight, _, out_weight, _ = parameters
        return _product(x, weight) + _product(Size((*x[:-1], weight[0])), out_weight)


def _product(x: Size, weight: Size) -> int:
    """FLOPs of a product of a map's tokens with a weight."""
    return 2 * x.numel() * weight[0]
