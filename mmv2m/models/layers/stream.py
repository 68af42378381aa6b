"""The residual stream between blocks, whose last sum is left to the norm that follows it."""

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
        *others: Modules of the same model, whose dtype counts if the norm has no parameters.

    Returns:
        (B, H, W, D).
    """
    dtype = dtype_of(norm, *others, default=x.dtype)
    if isinstance(norm, SameDtypeLayerNorm) and x.dtype.itemsize < dtype.itemsize:
        return norm(x)  # in autocast's half precision, a wider copy would gain nothing
    return norm(x.to(dtype))


class Stream(NamedTuple):
    """A residual stream, as a sum and a branch that is not added yet.

    If a block added its own output, it would write a map that the next block's norm reads again. So
    a block hands on both, and one operator computes sum and norm (:func:`mmv2m.ops.add_norm`).

    Attributes:
        total: (B, H, W, D), in at least float32 once anything has been added.
        branch: (B, H, W, D), the output of the last block; None at the beginning of a stage.
        factor: (B,), by which each image's branch is multiplied; None for 1.
    """

    total: Tensor
    branch: Tensor | None = None
    factor: Tensor | None = None

    @property
    def requires_grad(self) -> bool:
        """Whether the sum or the branch requires a gradient."""
        return self.total.requires_grad or (self.branch is not None and self.branch.requires_grad)

    def sum(self, dtype: torch.dtype | None = None) -> Tensor:
        """Add the branch, and return the stream as one map.

        Args:
            dtype: Dtype of the result. By default, it is at least float32.

        Returns:
            (B, H, W, D).
        """
        if self.branch is None:
            return widen(self.total) if dtype is None else self.total.to(dtype)
        total = widen(self.total)
        exact = torch.promote_types(total.dtype, self.branch.dtype)
        return add_branch(total, self.branch, self.factor, dtype or exact)

    def normed(
        self, layer: nn.Module, norm: nn.Module, *others: nn.Module, backend: str = 'auto'
    ) -> tuple[Tensor, Tensor]:
        """Normalise the stream, and return it as one map too.

        Args:
            layer: The layer that asks.
            norm: The norm. The operator stands for RMSNorm and LayerNorm where
                :func:`.door.may_stand_for` allows it. Any other norm is called.
            *others: See :func:`normalise`.
            backend: Backend of the operator.

        Returns:
            The normalised stream and the stream, both (B, H, W, D). If the operator runs, the first
            is in the dtype of ``branch``. If not, the norm is called in its parameters' dtype.
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
