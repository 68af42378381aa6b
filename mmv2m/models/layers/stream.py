"""The residual stream between blocks, whose last sum waits for the norm that follows it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmv2m.ops import add_norm

from .same_dtype_norm import SameDtypeLayerNorm

__all__ = ['Stream']


class Stream(NamedTuple):
    """A residual stream: what has been summed, and what the last block adds.

    A block that added its own output would write a map that the next block's norm reads again. So
    it hands both on, and sum and norm are one operator (:func:`mmv2m.ops.add_norm`).

    Attributes:
        total: (B, H, W, D), in at least float32 once anything has been added.
        branch: (B, H, W, D), not added yet; None behind the stem.
    """

    total: Tensor
    branch: Tensor | None = None

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is asked of either."""
        return self.total.requires_grad or (self.branch is not None and self.branch.requires_grad)

    def sum(self) -> Tensor:
        """The stream as one map, in at least float32."""
        return self._exact() if self.branch is None else self._exact() + self.branch

    def _exact(self) -> Tensor:
        return self.total.to(torch.promote_types(self.total.dtype, torch.float32))

    def normed(self, norm: nn.Module, backend: str = 'auto') -> tuple[Tensor, Tensor]:
        """The norm of the stream, and the stream as one map.

        Args:
            norm: RMSNorm and LayerNorm go with the sum; any other follows it.
            backend: Of the operator.

        Returns:
            Both (B, H, W, D). The first is in the dtype of ``branch`` where the norm goes with the
            sum, of ``total`` where :class:`SameDtypeLayerNorm` begins the stream, else in what the
            norm makes of a map in its parameters' dtype.
        """
        bias = getattr(norm, 'bias', None)
        rms = isinstance(norm, nn.RMSNorm)
        if self.branch is not None and (
            rms or (isinstance(norm, nn.LayerNorm) and bias is not None)
        ):
            eps = norm.eps or torch.finfo(self.total.dtype).eps
            total = self.total if self.total.dtype == self.branch.dtype else self._exact()
            return add_norm(self.branch, total, norm.weight, bias, eps, backend)
        if self.branch is None and isinstance(norm, SameDtypeLayerNorm):
            return norm(self.total), self.total  # nothing gained by a wider copy of either
        total = self.sum()
        # A model cast to half precision as a whole keeps its stream in float32.
        return norm(total.to(next(norm.parameters()).dtype)), total
