"""LayerNorm that stays in its input's dtype, also under autocast."""

from torch import Tensor, nn

from mmv2m.ops import channel_norm
from mmv2m.registry import MODELS

from .door import Known, unchanged

__all__ = ['SAME_DTYPE_NORM', 'SameDtypeLayerNorm']


@MODELS.register_module('SameDtypeLN')
class SameDtypeLayerNorm(nn.LayerNorm):
    """:class:`torch.nn.LayerNorm` in the dtype of its input; means and variances are float32.

    Under autocast, PyTorch's norm casts a half precision map to float32 and writes float32, which
    the next layer casts back. That takes three passes over the map and twice the memory, for a
    result of the same precision. A float32 map, such as the residual stream, is normalised in
    float32 as usual.

    Args:
        channels: Channels of the map.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)

    def forward(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """(..., E) to (..., E) in the dtype of ``x``, to which ``offset``, (E,), is added first."""
        return channel_norm(x, self.weight, self.bias, self.eps, offset)


SAME_DTYPE_NORM = Known(unchanged(SameDtypeLayerNorm), (('weight', True), ('bias', True)))
