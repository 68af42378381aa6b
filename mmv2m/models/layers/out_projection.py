"""The linear layer at the end of a mixer."""

import torch
from torch import nn

__all__ = ['OutProjection']


class OutProjection(nn.Linear):
    """A linear layer without bias whose initial weights are PyTorch's own, times a factor.

    It keeps this initialisation whatever ``init_cfg`` is configured above: 1 / sqrt(depth) holds
    the residual stream's variance down (GPT-2's scheme, which Mamba follows).

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
        """Initialise; mmengine calls this after what is configured above."""
        self.reset_parameters()
        with torch.no_grad():
            self.weight *= self.scale
