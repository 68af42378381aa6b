"""One chunk of the backward scan, which has the steps whose history a program holds.

Tuples have one element for each step of the chunk.
"""

import triton
import triton.language as tl

from .channel_sums import store_sums
from .elementary import LN2, softplus_grad
from .scan_tiles import load_matrix, time_step, token_vector

__all__ = [
    'enter_chunk',
    'leave_chunk',
    'read_chunk',
    'side_of_all',
    'states_of_chunk',
    'token_part',
    'walk_back',
]


@triton.jit
def read_chunk(
    x_row,
    delta_row,
    y_row,
    bias,
    valid,
    chunk,
    steps,
    step,
    x_token,
    delta_token,
    channels,
    HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    CHUNK: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Read a chunk as tuples of time steps ``dt``, inflows ``dt x``, gradients of y, and zeros."""
    dts, inflows, upstream, nothing = (), (), (), ()
    for j in tl.static_range(CHUNK):
        t = chunk * CHUNK + j
        alive = valid & (EVEN | (t < steps))
        now = step_of(t, steps, EVEN) * step
        u = tl.load(x_row + now * x_token, alive, 0).to(tl.float32)
        raw = tl.load(delta_row + now * delta_token, alive, 0)
        dy = tl.load(y_row + now * channels, alive, 0).to(tl.float32)
        dt = time_step(raw, bias, HAS_BIAS, SOFTPLUS)
        if not EVEN:  # superfluous steps must not change an incoming gradient
            dt = tl.where(alive, dt, 0)
        dts = dts + (dt,)
        inflows = inflows + (dt * u,)
        upstream = upstream + (dy,)
        nothing = nothing + (tl.zeros_like(dt),)
    return dts, inflows, upstream, nothing


@triton.jit
def side_of_all(
    side, KIND: tl.constexpr, channel, valid, offset, states: tl.constexpr, GROUP: tl.constexpr
):
    """B or C of a group of states for all tokens: the constants, or 1 for each state that exists.

    If B or C depends on the token, it replaces this at every step.
    """
    left = states - offset
    if KIND == 'constant':
        numbers = load_matrix(side + offset, channel, valid, states, left, GROUP)
    else:
        numbers = (tl.arange(0, GROUP) < left).to(tl.float32)[:, None]
    return numbers


@triton.jit
def enter_chunk(
    kept,
    edges,
    slot,
    crosses,
    edge,
    enters,
    offset,
    STATES: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Load a group's states, or their gradients, that enter a chunk.

    They come from another chunk where ``crosses``, and from outside of the lane where ``enters``
    and there are ``edges``. Elsewhere, they are zero.
    """
    tile = load_matrix(kept, slot, crosses, STATES, GROUP, GROUP)
    if edges is not None:
        tile += load_matrix(edges + offset, edge, enters, STATES, GROUP, GROUP)
    return tile


@triton.jit
def states_of_chunk(
    state,
    A_log2,
    B_t,
    B,
    dts,
    inflows,
    chunk,
    row,
    step,
    steps,
    B_token,
    offset,
    states: tl.constexpr,
    B_KIND: tl.constexpr,
    GROUP: tl.constexpr,
    CHUNK: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Compute a tuple of a group's states before each step, and the state behind the last one."""
    before = ()
    for j in tl.static_range(CHUNK):
        before = before + (state,)
        spot = row + step_of(chunk * CHUNK + j, steps, EVEN) * step
        if B_KIND == 'token':
            B_t = token_part(B + spot * B_token, offset, states, GROUP)
        decay = tl.exp2(dts[j][None, :] * A_log2)
        state = decay * state + inflows[j][None, :] * B_t
    return before, state


@triton.jit
def walk_back(
    grad,
    after,
    before,
    A_log2,
    B_t,
    C_t,
    B,
    C,
    dts,
    inflows,
    upstream,
    drives,
    decays,
    grad_B,
    grad_C,
    token_sums,
    chunk,
    row,
    step,
    steps,
    B_token,
    C_token,
    offset,
    states: tl.constexpr,
    B_KIND: tl.constexpr,
    C_KIND: tl.constexpr,
    GROUP: tl.constexpr,
    CHUNK: tl.constexpr,
    EVEN: tl.constexpr,
    BLOCK_E: tl.constexpr,
    FAST_SUMS: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
):
    """Walk with a group's gradient of the states from the last step to the first.

    Returns:
        The gradient in front of the chunk; the sums for A, and for constant B and C; and ``drives``
        and ``decays``, which are the gradients of inflows and of decays' exponents, with this
        group's part added.
    """
    # The values are the same, but the compiler does not know that. Otherwise, it would keep every
    # decay of the walk ahead in registers, which are scarcer than exponentials.
    A_again = A_log2 + tl.program_id(2).to(tl.float32)
    A_sum = tl.zeros((GROUP, BLOCK_E), tl.float32)
    B_sum, C_sum = A_sum, A_sum
    new_drives, new_decays, B_products, C_products = (), (), (), ()
    for j in tl.static_range(CHUNK - 1, -1, -1):
        spot = row + step_of(chunk * CHUNK + j, steps, EVEN) * step
        if B_KIND == 'token':
            B_t = token_part(B + spot * B_token, offset, states, GROUP)
        if C_KIND == 'token':
            C_t = token_part(C + spot * C_token, offset, states, GROUP)
        grad += upstream[j][None, :] * C_t
        if C_KIND != 'one':
            C_product = upstream[j][None, :] * after
            C_products = C_products + (C_product,)
            if C_KIND == 'constant':
                C_sum += C_product
        if B_KIND != 'one':
            B_product = grad * inflows[j][None, :]
            B_products = B_products + (B_product,)
            if B_KIND == 'constant':
                B_sum += B_product
        if ((CHUNK - j) % 4 == 0) | (j == 0):
            where = token_sums + row
            first = chunk * CHUNK + j
            if B_KIND == 'token':
                store_sums(
                    *(grad_B, B_products, (CHUNK - 1 - j) % 4 + 1, where, step, first, steps),
                    *(offset, states, GROUP, FAST_SUMS, DOT_DTYPE),
                )
            if C_KIND == 'token':
                store_sums(
                    *(grad_C, C_products, (CHUNK - 1 - j) % 4 + 1, where, step, first, steps),
                    *(offset, states, GROUP, FAST_SUMS, DOT_DTYPE),
                )
            B_products, C_products = (), ()
        new_drives = (drives[j] + tl.sum(grad * B_t, axis=0),) + new_drives
        grad *= tl.exp2(dts[j][None, :] * A_again)
        exponent = grad * before[j]
        A_sum += exponent * dts[j][None, :]
        new_decays = (decays[j] + tl.sum(exponent * A_log2, axis=0),) + new_decays
        after = before[j]
    return grad, A_sum, B_sum, C_sum, new_drives, new_decays


@triton.jit
def leave_chunk(
    grad_x,
    grad_delta,
    x_row,
    skip,
    dts,
    upstream,
    drives,
    decays,
    D_sum,
    bias_sum,
    valid,
    channel,
    chunk,
    row,
    step,
    steps,
    x_token,
    channels,
    HAS_D: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    CHUNK: tl.constexpr,
    EVEN: tl.constexpr,
):
    """Store the gradients of x and of time steps, and add to the sums for D and the bias."""
    for j in tl.static_range(CHUNK):
        t = chunk * CHUNK + j
        alive = valid & (EVEN | (t < steps))
        now = step_of(t, steps, EVEN) * step
        u = tl.load(x_row + now * x_token, alive, 0).to(tl.float32)
        du = drives[j] * dts[j]
        ddt = drives[j] * u + decays[j] * LN2
        if HAS_D:
            du += skip * upstream[j]
            D_sum += upstream[j] * u
        if SOFTPLUS != 'none':
            ddt *= softplus_grad(dts[j])
        bias_sum += tl.where(alive, ddt, 0)
        where = (row + now) * channels + channel
        tl.store(grad_x + where, du.to(grad_x.dtype.element_ty), alive)
        tl.store(grad_delta + where, ddt.to(grad_delta.dtype.element_ty), alive)
    return D_sum, bias_sum


@triton.jit
def step_of(t, steps, EVEN: tl.constexpr):
    """Step ``t``, or the last step if ``t`` is behind it, as at the end of an incomplete chunk."""
    if EVEN:
        return t
    return min(t, steps - 1)


@triton.jit
def token_part(pointer, offset, states: tl.constexpr, GROUP: tl.constexpr):
    """Load the states from ``offset`` on of one token's projection, as a (GROUP, 1) tile."""
    if states % GROUP == 0:
        return token_vector(pointer + offset, GROUP, GROUP)
    index = tl.arange(0, GROUP)
    part = tl.load(pointer + offset + index, index < states - offset, 0)
    return part.to(tl.float32)[:, None]
