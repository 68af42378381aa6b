"""Gradients of the projection of tokens to their time steps, and to B and C (the sides)."""

import triton
import triton.language as tl

__all__ = ['join_kernel', 'project_back_kernel', 'time_step_back_kernel']


@triton.jit(do_not_specialize=['tokens', 'tiles', 'rank'])
def time_step_back_kernel(
    grad_delta,
    low_rank,
    dt_weight,
    grad_low,
    grad_dt_weight,
    tokens,
    channels,
    tiles,
    rank,
    ALIGNED: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute ``grad_low`` and ``grad_dt_weight`` for ``raw = low_rank @ dt_weight.T``.

    A program owns a block of channels and RANK columns of ``low_rank``. The programs along the
    tokens take the tiles of tokens in turn, and each tile is read once.

    Shapes: grad_delta (tokens, E), the gradient of ``raw``; low_rank (tokens, rank); dt_weight
    (E, rank). Partial sums, to be summed over their first axis: grad_low (channel blocks, tokens,
    rank rounded up to a multiple of 4), of which ``rank`` columns count; grad_dt_weight (programs
    along the tokens, E, rank), float32. ALIGNED divides ``rank``; RANK is a power of two, at least
    16. Grid: (channel blocks, programs along the tokens, blocks of columns).
    """
    rank = rank // ALIGNED * ALIGNED
    channel = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    valid = channel < channels
    step = tl.program_id(2) * RANK + tl.arange(0, RANK)
    steps = rank if ALIGNED % 4 == 0 else (rank + 3) // 4 * 4
    matrix = channel[:, None] * rank + step[None, :]
    in_matrix = valid[:, None] & (step < rank)[None, :]
    weight = tl.load(dt_weight + matrix, in_matrix, 0).to(grad_delta.dtype.element_ty).to(DOT_DTYPE)
    sums = tl.zeros((BLOCK_E, RANK), tl.float32)
    for tile in range(tl.program_id(1), tiles, tl.num_programs(1)):
        token = tile * BLOCK_T + tl.arange(0, BLOCK_T)
        inside = (token < tokens)[:, None]
        row = token.to(tl.int64)[:, None]
        where = row * channels + channel[None, :]
        grad = tl.load(grad_delta + where, inside & valid[None, :], 0).to(DOT_DTYPE)
        of_step = inside & (step < rank)[None, :]
        low = tl.load(low_rank + row * rank + step[None, :], of_step, 0).to(DOT_DTYPE)
        part = tl.dot(grad, weight, input_precision=PRECISION)
        first = tl.program_id(0).to(tl.int64) * tokens
        part = part.to(grad_low.dtype.element_ty)
        in_steps = inside & (step < steps)[None, :]
        tl.store(grad_low + (first + row) * steps + step[None, :], part, in_steps)
        sums = tl.dot(grad.trans(), low, sums, input_precision=PRECISION)
    first = tl.program_id(1).to(tl.int64) * channels * rank
    tl.store(grad_dt_weight + first + matrix, sums, in_matrix)


@triton.jit
def sum_side(side, begin, token, state, inside, tokens, groups, states: tl.constexpr):
    """Sum the partial sums of B's or C's gradient for tokens from ``begin`` on, by column."""
    if states == 1:  # a number is loaded once for a token, and not for each of its columns
        at, there = token, inside
    else:
        at, there = token * states + state, inside & (state >= 0) & (state < states)
    side += begin * states
    sums = tl.zeros(there.shape, tl.float32)
    for _ in range(groups):
        sums += tl.load(side + at, there, 0)
        side += tokens.to(tl.int64) * states
    return tl.where(state == 0, sums, 0) if states == 1 else sums


@triton.jit(do_not_specialize=['tokens', 'blocks', 'groups', 'rank'])
def join_kernel(
    grad_low,
    grad_first,
    grad_second,
    grad_projected,
    tokens,
    blocks,
    groups,
    rank,
    columns,
    ALIGNED: tl.constexpr,
    states: tl.constexpr,
    SIDES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Finish the sums of the gradients of each token's projection, and join them.

    Shapes: partial sums grad_low (blocks, tokens, rank rounded up to a multiple of 4), of which
    ``rank`` columns count; grad_first and, with two SIDES, grad_second (groups, tokens, states),
    float32; grad_projected (tokens, columns), padded with zeros. ALIGNED divides ``rank`` and
    ``states``, and BLOCK_C divides ``columns``. Grid: (token tiles, blocks of columns).
    """
    rank = rank // ALIGNED * ALIGNED
    first, begin = tl.program_id(1) * BLOCK_C, tl.program_id(0) * BLOCK_T
    token, column = tl.arange(0, BLOCK_T)[:, None], first + tl.arange(0, BLOCK_C)[None, :]
    inside = token < tokens - begin
    begin = begin.to(tl.int64)
    sums = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)

    steps = (rank + 3) // 4 * 4
    source, of_rank = grad_low + begin * steps, inside & (column < steps)
    for _ in range(tl.where(first < rank, blocks, 0)):
        sums += tl.load(source + (token * steps + column), of_rank, 0).to(tl.float32)
        source += tokens.to(tl.int64) * steps
    sums = tl.where(column < rank, sums, 0)

    groups = tl.where(first + BLOCK_C > rank, groups, 0)
    sums += sum_side(grad_first, begin, token, column - rank, inside, tokens, groups, states)
    if SIDES > 1:
        state = column - rank - states
        sums += sum_side(grad_second, begin, token, state, inside, tokens, groups, states)
    result = sums.to(grad_projected.dtype.element_ty)
    target = grad_projected + begin * columns
    tl.store(target + (token * columns + column), result, inside)


@triton.jit(do_not_specialize=['tokens', 'tiles', 'width'])
def project_back_kernel(
    grad_projected,
    x,
    weight,
    grad_x,
    grad_weight,
    tokens,
    channels,
    tiles,
    width,
    columns,
    WIDTH: tl.constexpr,
    ADDS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
    DOT_DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Compute ``grad_weight`` for ``projected = x @ weight.T``, and add to ``grad_x`` if ADDS.

    Without ADDS, the part of ``grad_x`` is left to a later kernel. A program owns a block of
    channels and WIDTH columns of ``projected``. The programs along the tokens take the tiles of
    tokens in turn.

    Shapes: grad_projected (tokens, columns), of which ``width`` columns count, and others are zero;
    x and grad_x (tokens, E); weight (width, E); grad_weight (programs along the tokens, width, E),
    float32, partial sums. WIDTH is a power of two, at least 16. If ADDS, it covers all columns.
    Grid: (channel blocks, programs along the tokens, blocks of columns).
    """
    channel = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    valid = (channel < channels)[None, :]
    column = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    matrix = column[:, None] * channels + channel[None, :]
    in_matrix = (column < width)[:, None] & valid
    if ADDS:
        rows = tl.load(weight + matrix, in_matrix, 0).to(x.dtype.element_ty).to(DOT_DTYPE)
    sums = tl.zeros((WIDTH, BLOCK_E), tl.float32)
    for tile in range(tl.program_id(1), tiles, tl.num_programs(1)):
        token = tile * BLOCK_T + tl.arange(0, BLOCK_T)
        inside = (token < tokens)[:, None]
        row = token.to(tl.int64)[:, None]
        where = row * channels + channel[None, :]
        of_columns = inside & (column < columns)[None, :]
        grad = tl.load(grad_projected + row * columns + column[None, :], of_columns, 0)
        grad = grad.to(DOT_DTYPE)
        values = tl.load(x + where, inside & valid, 0).to(DOT_DTYPE)
        if ADDS:
            through = tl.dot(grad, rows, input_precision=PRECISION)
            through += tl.load(grad_x + where, inside & valid, 0).to(tl.float32)
            tl.store(grad_x + where, through.to(grad_x.dtype.element_ty), inside & valid)
        sums = tl.dot(grad.trans(), values, sums, input_precision=PRECISION)
    first = tl.program_id(1).to(tl.int64) * width * channels
    tl.store(grad_weight + first + matrix, sums, in_matrix)
