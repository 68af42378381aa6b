"""Elementary functions of the kernels, all on float32 (or float64) tiles."""

import triton
import triton.language as tl
from triton import knobs

__all__ = [
    'LN2',
    'LOG2E',
    'normal',
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
    """``1 / x``, exact except for the last bit, for ``x`` that is neither tiny nor huge.

    The division that Triton emits needs several more instructions to guard against overflow.
    """
    if INTERPRETED:
        return 1 / x
    return tl.inline_asm_elementwise(
        'rcp.approx.ftz.f32 $0, $1;', '=f,f', [x], dtype=tl.float32, is_pure=True, pack=1
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
def normal(x):
    """``(1 + erf(x / sqrt(2))) / 2``, and its derivative ``exp(-x**2 / 2) / sqrt(2 pi)``.

    Both need the exponential, which ``erf`` would compute once more. The tail has a second factor,
    ``exp(z**2) * erfc(z)`` with ``z = abs(x) / sqrt(2)``. A polynomial of ``1 / (1 + 0.425 * z)``,
    fitted for ``z`` up to 8, approximates it with a relative error of 6e-8.
    """
    bell = tl.exp2(x * x * (-0.5 * LOG2E))
    t = reciprocal(1 + (0.425 * SQRT_HALF) * tl.abs(x))
    tail = 0.07451392186796052 * t - 0.32586248634381143
    tail = tail * t + 0.4296582570519258
    tail = tail * t - 0.12373177864251615
    tail = tail * t + 0.2660638145871611
    tail = tail * t + 0.1973218080440559
    tail = tail * t + 0.24239501210747355
    tail = tail * t + 0.23964145509429047
    tail *= 0.5 * t * bell
    return tl.where(x < 0, tail, 1 - tail), INV_SQRT_2PI * bell


@triton.jit
def softplus(x):
    """``log(1 + exp(x))``, without overflow and exact for very negative ``x``.

    A polynomial of ``s`` approximates ``log(1 + s) / s`` for ``s`` from 0 to 1, with a relative
    error of 3e-8. The GPU's logarithm would round ``1 + s`` first, which loses the small digits of
    ``s``.
    """
    small = tl.exp2(-tl.abs(x) * LOG2E)
    share = 0.005232695223535311 * small - 0.029505246661196513
    share = share * small + 0.07822597245835086
    share = share * small - 0.13663248349651466
    share = share * small + 0.19106008461615784
    share = share * small - 0.2484298283244441
    share = share * small + 0.3331909692400066
    share = share * small - 0.4999949315015774
    share = share * small + 0.9999999698818828
    return tl.maximum(x, 0) + small * share


@triton.jit
def softplus_grad(y):
    """Derivative of softplus, from its value ``y``: ``1 - exp(-y)``."""
    series = y * (1 - y * (1 / 2 - y * (1 / 6 - y * (1 / 24))))
    return tl.where(y < 0.0625, series, 1 - tl.exp2(-y * LOG2E))
