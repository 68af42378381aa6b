"""LayerNorm that stays in its input's dtype, also under autocast."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmv2m.registry import MODELS

__all__ = ['SameDtypeLayerNorm']


@MODELS.register_module('SameDtypeLN')
class SameDtypeLayerNorm(nn.LayerNorm):
    """:class:`torch.nn.LayerNorm` in the dtype of its input; means and variances are float32.

    Autocast would read a half precision map as float32 and write float32, which whatever follows
    casts back: three passes over the map and twice the memory, for a result of the same precision.
    A float32 map, such as the residual stream, is normalised as ever.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) to (..., E), in the dtype of ``x``."""
        weight = None if self.weight is None else self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
