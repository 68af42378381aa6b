"""The norm of a map, or of a sum of two maps, over the channels, forward and backward."""

import triton
import triton.language as tl

__all__ = ['norm_backward_kernel', 'norm_forward_kernel']


@triton.jit
def load_rows(pointer, where, inside):
    """Load a tile of a map as float32."""
    return tl.load(pointer + where, inside, 0).to(tl.float32)


@triton.jit
def normalise(x, inside, channels, eps, CENTERED: tl.constexpr):
    """Normalise a (rows, channels) tile, and return also one over its deviation.

    If CENTERED, the mean is subtracted first.
    """
    if CENTERED:
        x = tl.where(inside, x - tl.sum(x, axis=1)[:, None] / channels, 0)
    scale = tl.rsqrt(tl.sum(x * x, axis=1) / channels + eps)[:, None]
    return x * scale, scale


@triton.jit(do_not_specialize=['rows', 'image_rows'])
def norm_forward_kernel(
    branch,
    residual,
    weight,
    bias,
    offset,
    factor,
    normed,
    total,
    rows,
    image_rows,
    channels,
    eps,
    CENTERED: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Compute ``total = residual + factor * branch``, ``normed = norm(total) * weight + bias``.

    Without a residual, ``branch`` plus an ``offset`` is normalised, and ``total`` is not stored.

    Shapes: weight, bias and offset (D,); factor (B,), for images of ``image_rows`` rows; all others
    (rows, D). Residual and total are both None or neither. Bias, offset and factor may be None. If
    CENTERED, the norm is a LayerNorm, and otherwise an RMSNorm. Grid: (row tiles,).
    """
    row = (tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)[:, None]
    channel = tl.arange(0, BLOCK_D)
    valid = channel < channels
    inside = (row < rows) & valid[None, :]
    where = row * channels + channel[None, :]
    x = load_rows(branch, where, inside)
    if offset is not None:
        x += tl.load(offset + channel, valid, 0)[None, :]
    if factor is not None:
        x *= tl.load(factor + row // image_rows, row < rows, 0)
    if residual is not None:
        x += load_rows(residual, where, inside)
        tl.store(total + where, x, inside)
    y, _ = normalise(x, inside, channels, eps, CENTERED)
    y *= tl.load(weight + channel, valid, 0)[None, :]
    if bias is not None:
        y += tl.load(bias + channel, valid, 0)[None, :]
    tl.store(normed + where, y.to(normed.dtype.element_ty), inside)


@triton.jit(do_not_specialize=['rows', 'image_rows', 'tiles'])
def norm_backward_kernel(
    grad_normed,
    grad_total,
    total,
    weight,
    offset,
    factor,
    grad_branch,
    grad_residual,
    grad_weight,
    grad_bias,
    grad_offset,
    rows,
    image_rows,
    channels,
    eps,
    tiles,
    CENTERED: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Compute gradients of both summands, and of weight, bias and offset.

    The gradients of both summands differ by the factor of the branch, and may differ in their
    dtypes. Without a residual, ``total`` is the normalised map, and grad_total and grad_residual
    are None.

    Shapes are those of the forward kernel. grad_weight, grad_bias and grad_offset (programs, D) are
    partial sums; the latter two are None without a bias or an offset. Programs take the ``tiles``
    of rows in turn. Grid: (programs,).
    """
    channel = tl.arange(0, BLOCK_D)
    valid = channel < channels
    scale = tl.load(weight + channel, valid, 0)[None, :]
    # Each number of a tile has a sum of its own, so that rows are added up only once.
    weight_sums = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    bias_sums = weight_sums
    offset_sums = weight_sums
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        row = (tile * BLOCK_R + tl.arange(0, BLOCK_R)).to(tl.int64)[:, None]
        inside = (row < rows) & valid[None, :]
        where = row * channels + channel[None, :]
        x = load_rows(total, where, inside)
        if offset is not None:
            x += tl.load(offset + channel, valid, 0)[None, :]
        y, deviation = normalise(x, inside, channels, eps, CENTERED)
        upstream = load_rows(grad_normed, where, inside)
        weight_sums += upstream * y
        grad = upstream * scale
        inner = grad - y * (tl.sum(grad * y, axis=1)[:, None] / channels)
        if CENTERED:
            bias_sums += upstream
            inner -= tl.sum(grad, axis=1)[:, None] / channels
        inner *= deviation
        if offset is not None:
            offset_sums += inner
        if grad_residual is not None:
            inner += load_rows(grad_total, where, inside)
            tl.store(grad_residual + where, inner.to(grad_residual.dtype.element_ty), inside)
        if factor is not None:
            inner *= tl.load(factor + row // image_rows, row < rows, 0)
        tl.store(grad_branch + where, inner.to(grad_branch.dtype.element_ty), inside)
    at = tl.program_id(0) * channels + channel
    tl.store(grad_weight + at, tl.sum(weight_sums, axis=0), valid)
    if grad_bias is not None:
        tl.store(grad_bias + at, tl.sum(bias_sums, axis=0), valid)
    if grad_offset is not None:
        tl.store(grad_offset + at, tl.sum(offset_sums, axis=0), valid)
