"""The residual stream between blocks, whose last sum waits for the norm that follows it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmv2m.ops import add_norm

from .add_branch import add_branch
from .door import Known, may_stand_for, unchanged
from .params import dtype_of, widen
from .same_dtype_norm import SameDtypeLayerNorm

__all__ = ['Stream', 'normalise']

LAYER_NORM = Known(unchanged(nn.LayerNorm, SameDtypeLayerNorm), (('weight', True), ('bias', True)))
RMS_NORM = Known(unchanged(nn.RMSNorm), (('weight', True),))


def normalise(norm: nn.Module, x: Tensor, *others: nn.Module) -> Tensor:
    """Call a norm on the residual stream.

    A model that was cast to half precision as a whole keeps its stream in float32, so the norm gets
    the stream in the dtype of its parameters.

    Args:
        norm: The norm.
        x: (B, H, W, D), the stream.
        *others: Modules of the same model, which have parameters if the norm has none.

    Returns:
        (B, H, W, D).
    """
    dtype = dtype_of(norm, *others, default=x.dtype)
    if isinstance(norm, SameDtypeLayerNorm) and x.dtype.itemsize < dtype.itemsize:
        return norm(x)  # autocast's half precision: nothing is gained by a wider copy
    return norm(x.to(dtype))


class Stream(NamedTuple):
    """A residual stream: what has been summed, and what the last block adds.

    A block that added its own output would write a map that the next block's norm reads again. So
    it hands both on, and sum and norm are one operator (:func:`mmv2m.ops.add_norm`).

    Attributes:
        total: (B, H, W, D), in at least float32 once anything has been added.
        branch: (B, H, W, D), not added yet; None at the beginning of a stage.
        factor: (B,), what each image's branch is multiplied by; None for 1.
    """

    total: Tensor
    branch: Tensor | None = None
    factor: Tensor | None = None

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is asked of either."""
        return self.total.requires_grad or (self.branch is not None and self.branch.requires_grad)

    def sum(self, dtype: torch.dtype | None = None) -> Tensor:
        """The stream as one map, in at least float32, or in the dtype in which it is read."""
        if self.branch is None:
            return widen(self.total) if dtype is None else self.total.to(dtype)
        total = widen(self.total)
        exact = torch.promote_types(total.dtype, self.branch.dtype)
        return add_branch(total, self.branch, self.factor, dtype or exact)

    def normed(
        self, layer: nn.Module, norm: nn.Module, *others: nn.Module, backend: str = 'auto'
    ) -> tuple[Tensor, Tensor]:
        """The norm of the stream, and the stream as one map.

        Args:
            layer: The layer that asks.
            norm: The operator stands for RMSNorm and LayerNorm, with the sum, where it may. Any
                other norm is called.
            *others: See :func:`normalise`.
            backend: Of the operator.

        Returns:
            Both (B, H, W, D). The first is in the dtype of ``branch`` where the operator runs, else
            in what the norm makes of a map in its parameters' dtype.
        """
        if self.branch is None:
            total = self.total if isinstance(norm, SameDtypeLayerNorm) else self.sum()
            return normalise(norm, total, *others), total
        known = RMS_NORM if isinstance(norm, nn.RMSNorm) else LAYER_NORM
        exact = torch.promote_types(self.branch.dtype, torch.float32)
        if (
            isinstance(norm, (nn.RMSNorm, nn.LayerNorm))
            and self.total.dtype in (self.branch.dtype, exact)
            and may_stand_for(layer, self.branch, ((norm, known),))
        ):
            eps = torch.finfo(self.total.dtype).eps if norm.eps is None else norm.eps
            bias = norm.bias if known is LAYER_NORM else None
            summands = self.branch, self.total
            return add_norm(*summands, norm.weight, bias, eps, backend, self.factor)
        total = self.sum()
        return normalise(norm, total, *others), total
