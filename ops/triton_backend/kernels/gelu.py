"""The exact GELU, forward and backward."""

import triton
import triton.language as tl

from .elementary import normal_cdf, normal_pdf

__all__ = ['gelu_backward_kernel', 'gelu_forward_kernel']


@triton.jit
def gelu_forward_kernel(x, y, count, BLOCK: tl.constexpr):
    """``y = x * Phi(x)``, both (count,). Grid: (blocks,)."""
    where = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = where < count
    value = tl.load(x + where, inside, 0).to(tl.float32)
    tl.store(y + where, (value * normal_cdf(value)).to(y.dtype.element_ty), inside)


@triton.jit
def gelu_backward_kernel(grad, x, y, count, BLOCK: tl.constexpr):
    """``y`` as in the forward kernel, and its gradient ``grad`` replaced by that of ``x``."""
    where = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = where < count
    value = tl.load(x + where, inside, 0).to(tl.float32)
    slope = tl.load(grad + where, inside, 0).to(tl.float32)
    share = normal_cdf(value)
    tl.store(y + where, (value * share).to(y.dtype.element_ty), inside)
    slope *= share + value * normal_pdf(value)
    tl.store(grad + where, slope.to(grad.dtype.element_ty), inside)
