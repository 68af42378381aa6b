"""Loads and stores of the scan kernels: matrices of parameters, and vectors of one token.

A tile is (states, channels). Each thread owns whole channels, every 32nd of its warp's channels,
with all their states, so sums over states never leave a thread.
"""

import triton
import triton.language as tl

from .elementary import LOG2E, softplus

__all__ = [
    'load_matrix',
    'load_rates',
    'scattered',
    'store_matrix',
    'time_step',
    'token_vector',
]


@triton.jit
def load_matrix(pointer, channel, valid, row, size, SIZE: tl.constexpr):
    """Load the first ``size`` columns of a (channels, columns) matrix as a (SIZE, channels) tile.

    ``row`` is the distance between rows. The tile is float32, and zero outside of the matrix.
    """
    index = tl.arange(0, SIZE)
    where = channel[:, None] * row + scattered(index)[None, :]
    tile = tl.load(pointer + where, valid[:, None] & (index < size)[None, :], 0)
    return tile.to(tl.float32).trans()


@triton.jit
def load_rates(A, channel, valid, states, STATES: tl.constexpr, LOG_A: tl.constexpr):
    """Load rates of decay, as exponents of two, from the (channels, states) matrix A.

    LOG_A says whether A stands for ``-exp(A)``.
    """
    rates = load_matrix(A, channel, valid, states, states, STATES)
    if LOG_A:
        rates = -tl.exp2(rates * LOG2E)
    return rates * LOG2E


@triton.jit
def store_matrix(pointer, tile, channel, valid, row, size, SIZE: tl.constexpr):
    """Store a tile, as :func:`load_matrix` loads it."""
    index = tl.arange(0, SIZE)
    where = channel[:, None] * row + scattered(index)[None, :]
    tl.store(pointer + where, tile.trans(), valid[:, None] & (index < size)[None, :])


@triton.jit
def scattered(index):
    """Return the same numbers, without the compiler's knowledge that they are consecutive.

    With it, the compiler would give each thread several adjacent states or channels, to load them
    in wide pieces, and would then exchange data between threads at every step: by shuffles for sums
    over states, and by shared memory for channels. The grids have no third axis, so its program id
    is zero.
    """
    return index ^ tl.program_id(2)


@triton.jit
def token_vector(pointer, size: tl.constexpr, SIZE: tl.constexpr):
    """Load ``size`` adjacent numbers, equal for all channels, as a (SIZE, 1) float32 tile."""
    index = tl.arange(0, SIZE)
    if size == SIZE:
        return tl.load(pointer + index).to(tl.float32)[:, None]
    return tl.load(pointer + index, index < size, 0).to(tl.float32)[:, None]


@triton.jit
def time_step(delta, bias, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr):
    """Compute the time step of each channel from the loaded ``delta``.

    SOFTPLUS is ``'none'``, ``'apply'``, or ``'applied'`` if ``delta`` includes bias and softplus.
    """
    delta = delta.to(tl.float32)
    if HAS_BIAS and SOFTPLUS != 'applied':
        delta += bias
    if SOFTPLUS == 'apply':
        delta = softplus(delta)
    return delta
