"""The linear layer at the end of a mixer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmv2m.ops import gated_linear

from .door import Known, may_stand_for, unchanged

__all__ = ['OUT_PROJECTION', 'OutProjection', 'project_gated']


class OutProjection(nn.Linear):
    """A linear layer without bias, whose initial weights are PyTorch's own times a factor.

    It keeps this initialisation whatever ``init_cfg`` is configured above. A factor of 1 /
    sqrt(depth) keeps the residual stream's variance small (GPT-2's scheme, which Mamba follows).

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        scale: The factor.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 1.0) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.scale = scale
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the weights; mmengine calls this after the configured initialisation."""
        self.reset_parameters()
        with torch.no_grad():
            self.weight *= self.scale


OUT_PROJECTION = Known(unchanged(OutProjection), (('weight', True), ('bias', False)))

GATED = Known(unchanged(OutProjection, nn.Linear), (('weight', True), ('bias', None)))


def project_gated(
    layer: nn.Module,
    y: Tensor,
    z: Tensor,
    linear: Any,
    backend: str,
    divisor: int = 1,
) -> Tensor:
    """Compute ``linear(y / divisor * SiLU(z))``, the end of a gated mixer.

    Args:
        layer: The mixer.
        y: (B, H, W, E).
        z: Gate, like ``y``.
        linear: The linear layer. :func:`mmv2m.ops.gated_linear` stands for it where
            :func:`.door.may_stand_for` allows it.
        backend: Backend of that operator.
        divisor: Number by which ``y`` is divided, to turn a sum of maps into their mean.

    Returns:
        (B, H, W, D).
    """
    if y.dtype is z.dtype and may_stand_for(layer, y, ((linear, GATED),)):
        weight, bias = linear.weight, linear.bias
        out = gated_linear(y, z, weight * (1 / divisor) if divisor > 1 else weight, backend)
        return out if bias is None else out + bias
    y = y / divisor if divisor > 1 else y
    return linear(y * F.silu(z))
