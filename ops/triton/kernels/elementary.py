"""Elementary functions of the kernels, all on float32 (or float64) tiles."""

import triton
import triton.language as tl
from triton import knobs

__all__ = [
    'LN2',
    'LOG2E',
    'normal_cdf',
    'normal_pdf',
    'sigmoid',
    'silu',
    'silu_grad',
    'softplus',
    'softplus_grad',
]

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
SQRT_HALF = tl.constexpr(0.7071067811865476)
INV_SQRT_2PI = tl.constexpr(0.3989422804014327)


INTERPRETED = tl.constexpr(bool(knobs.runtime.interpret))


@triton.jit
def reciprocal(x):
    """``1 / x`` to the last bit but one, for ``x`` that is neither tiny nor huge.

    The division that Triton emits guards against overflow with several instructions more.
    """
    if INTERPRETED:
        return 1 / x
    return tl.inline_asm_elementwise(
        'rcp.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def log2_approx(x):
    """Logarithm to the base 2, of ``x`` from 1/2 to 2 to 2**-22 (absolute).

    Triton's own is a polynomial, which takes 25 instructions more.
    """
    if INTERPRETED:
        return tl.log2(x)
    return tl.inline_asm_elementwise(
        'lg2.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def sigmoid(x):
    """``1 / (1 + exp(-x))``."""
    return reciprocal(1 + tl.exp2(-x * LOG2E))


@triton.jit
def silu(x):
    """``x * sigmoid(x)``."""
    return x * sigmoid(x)


@triton.jit
def silu_grad(x):
    """Derivative of SiLU at ``x``."""
    gate = sigmoid(x)
    return gate * (1 + x * (1 - gate))


@triton.jit
def normal_cdf(x):
    """``(1 + erf(x / sqrt(2))) / 2``."""
    return 0.5 + 0.5 * tl.erf(x * SQRT_HALF)


@triton.jit
def normal_pdf(x):
    """Derivative of :func:`normal_cdf`: ``exp(-x**2 / 2) / sqrt(2 pi)``."""
    return INV_SQRT_2PI * tl.exp2(x * x * (-0.5 * LOG2E))


@triton.jit
def softplus(x):
    """``log(1 + exp(x))``, without overflow and exact for very negative ``x``."""
    small = tl.exp2(-tl.abs(x) * LOG2E)
    # log(1 + s) rounds 1 + s: below 1/32 its series is more exact, up to s**5 / 5.
    series = small * (1 - small * (1 / 2 - small * (1 / 3 - small * (1 / 4))))
    return tl.maximum(x, 0) + tl.where(small < 0.03125, series, log2_approx(1 + small) * LN2)


@triton.jit
def softplus_grad(y):
    """Derivative of softplus, from its value ``y``: ``1 - exp(-y)``."""
    series = y * (1 - y * (1 / 2 - y * (1 / 6 - y * (1 / 24))))
    return tl.where(y < 0.0625, series, 1 - tl.exp2(-y * LOG2E))
