"""What the scan kernels read: matrices kept in registers, and vectors of one token.

A tile is (states, channels). Each thread owns whole channels, every 32nd of its warp's, with all
their states: sums over states never leave a thread.
"""

import triton
import triton.language as tl

from .elementary import softplus

__all__ = [
    'load_matrix',
    'load_projection',
    'scattered',
    'store_matrix',
    'sum_channels',
    'time_step',
    'token_vector',
]


@triton.jit
def load_matrix(pointer, channel, valid, size: tl.constexpr, SIZE: tl.constexpr):
    """A (channels, size) matrix as a (SIZE, channels) tile, zero where there is nothing."""
    index = tl.arange(0, SIZE)
    where = channel[:, None] * size + scattered(index)[None, :]
    return tl.load(pointer + where, valid[:, None] & (index < size)[None, :], 0).trans()


@triton.jit
def store_matrix(pointer, tile, channel, valid, size: tl.constexpr, SIZE: tl.constexpr):
    """The opposite of :func:`load_matrix`."""
    index = tl.arange(0, SIZE)
    where = channel[:, None] * size + scattered(index)[None, :]
    tl.store(pointer + where, tile.trans(), valid[:, None] & (index < size)[None, :])


@triton.jit
def scattered(index):
    """The same numbers, which the compiler no longer knows to be neighbours.

    It would give each thread several neighbouring states or channels, to load them in wide pieces,
    and then exchange data between threads at every step: sums over states by shuffles, channels by
    way of shared memory. The grids have no third axis, so its program id is zero.
    """
    return index ^ tl.program_id(2)


@triton.jit
def token_vector(pointer, size: tl.constexpr, SIZE: tl.constexpr):
    """``size`` neighbouring numbers, the same for all channels, as a (SIZE, 1) tile."""
    index = tl.arange(0, SIZE)
    if size == SIZE:
        return tl.load(pointer + index)[:, None]
    return tl.load(pointer + index, index < size, 0)[:, None]


@triton.jit
def load_projection(
    pointer,
    row,
    row_size,
    constant,
    KIND: tl.constexpr,
    states: tl.constexpr,
    STATES: tl.constexpr,
):
    """B or C at a token, to be broadcast with a (STATES, channels) tile.

    KIND is ``'one'``, ``'constant'`` (then it is ``constant``, in registers already) or
    ``'token'``: ``states`` numbers at ``pointer + row * row_size``.
    """
    if KIND == 'token':
        return token_vector(pointer + row * row_size, states, STATES).to(tl.float32)
    return constant


@triton.jit
def time_step(delta, bias, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr):
    """The time step of each channel from what was loaded for it."""
    delta = delta.to(tl.float32)
    if HAS_BIAS:
        delta += bias
    if SOFTPLUS:
        delta = softplus(delta)
    return delta


@triton.jit
def sum_channels(tile, FAST: tl.constexpr):
    """Sum of a (states, channels) tile over its channels, (states,).

    A warp needs ten instructions a state to sum over its lanes. FAST lets the matrix units do it,
    after rounding to bfloat16, which is what gradients of half-precision inputs end in anyhow; it
    takes at least 16 states.
    """
    if FAST:
        first_column = (tl.arange(0, 16) == 0).to(tl.bfloat16)[None, :]
        ones = tl.broadcast_to(first_column, (tile.shape[1], 16))
        return tl.sum(tl.dot(tile.to(tl.bfloat16), ones), axis=1)
    return tl.sum(tile, axis=1)
