"""A stand-in for ``mamba_ssm.ops.selective_scan_interface``, as Mamba and Vim call it."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ..directional_conv import directional_conv
from ..directional_scan import directional_scan
from ..precision import state_dtype, without_autocast
from ..selective_scan import selective_scan_fn

__all__ = [
    'bimamba_inner_fn',
    'mamba_inner_fn',
    'mamba_inner_fn_no_out_proj',
    'mamba_inner_ref',
    'selective_scan_fn',
    'selective_scan_ref',
]


def mamba_inner_fn_no_out_proj(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
) -> Tensor:
    """Compute Mamba's mixer between its two projections.

    That is the convolution, the time step, B, C, and the gated scan.

    Args:
        xz: Map and gate, (B, 2 E, L).
        conv1d_weight: (E, 1, K).
        conv1d_bias: (E,).
        x_proj_weight: (R + 2 N, E), or without N for each of ``B`` and ``C`` that is given.
        delta_proj_weight: (E, R).
        A: (E, N), real.
        B: Constant, (E, N), or None to take it from the map.
        C: Constant, (E, N), or None to take it from the map.
        D: Skip, (E,).
        delta_bias: (E,).
        B_proj_bias: Added to ``B`` if ``B`` comes from the map, (N,).
        C_proj_bias: Added to ``C`` if ``C`` comes from the map, (N,).
        delta_softplus: Whether the time step goes through a softplus.
        checkpoint_lvl: Says what mamba_ssm computes again for the gradient. It has no effect here,
            where only inputs are kept.

    Returns:
        (B, E, L), a view of a contiguous (B, L, E) tensor.
    """
    projections = (conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight)
    sides = ((B, B_proj_bias, None), (C, C_proj_bias, None))
    y = _mix(xz, projections, [(A, 'right')], sides, D, delta_bias, delta_softplus)
    return y.transpose(1, 2)


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """Compute Mamba's mixer with its output projection, (B, 2 E, L) to (B, L, D).

    ``out_proj_weight`` is (D, E), and ``out_proj_bias`` is (D,). ``b_rms_weight`` and
    ``c_rms_weight``, (N,), and ``dt_rms_weight``, (E,), are weights of RMSNorms of ``B``, ``C`` and
    the time step, with the epsilon ``b_c_dt_rms_eps``. The other arguments are described at
    :func:`mamba_inner_fn_no_out_proj`.
    """
    projections = (conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight)
    sides = ((B, B_proj_bias, b_rms_weight), (C, C_proj_bias, c_rms_weight))
    norm = (dt_rms_weight, b_c_dt_rms_eps)
    y = _mix(xz, projections, [(A, 'right')], sides, D, delta_bias, delta_softplus, norm)
    return F.linear(y, out_proj_weight, out_proj_bias)


def bimamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    A_b: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """Compute Vim's first mixer: :func:`mamba_inner_fn` with a backward scan too, by ``A_b``."""
    projections = (conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight)
    sides = ((B, B_proj_bias, None), (C, C_proj_bias, None))
    walks = [(A, 'right'), (A_b, 'left')]
    y = _mix(xz, projections, walks, sides, D, delta_bias, delta_softplus)
    return F.linear(y, out_proj_weight, out_proj_bias)


selective_scan_ref = selective_scan_fn
mamba_inner_ref = mamba_inner_fn


def _mix(
    xz: Tensor,
    projections: tuple[Tensor, Tensor | None, Tensor, Tensor],
    walks: Sequence[tuple[Tensor, str]],
    sides: Sequence[tuple[Tensor | None, Tensor | None, Tensor | None]],
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    norm: tuple[Tensor | None, float] = (None, 0.0),
) -> Tensor:
    """Compute the part that all mixers share, (B, 2 E, L) to (B, L, E).

    Args:
        xz: Map and gate.
        projections: Weight and bias of the convolution, and the weights of the two projections.
        walks: A and direction of each scan; the scans are summed.
        sides: For B and for C: the constant, the bias and the weight of the norm, each may be None.
        D: Skip.
        delta_bias: Added to the time step.
        delta_softplus: Whether the time step goes through a softplus.
        norm: Weight of the time step's norm, and the epsilon of all norms.
    """
    conv_weight, conv_bias, x_proj, delta_proj = projections
    x, z = xz.transpose(1, 2)[:, None].chunk(2, -1)
    x = directional_conv(x, conv_weight[:, 0], conv_bias)
    projected = F.linear(x, x_proj)
    rank, states = delta_proj.shape[1], walks[0][0].shape[1]
    time_step = F.linear(projected[..., :rank], delta_proj)
    delta = _norm(time_step, *norm).to(x.dtype)
    parts = (projected[..., rank : rank + states], projected[..., -states:])
    B, C = (_side(*side, part, norm[1], x) for side, part in zip(sides, parts, strict=True))
    scans = [
        directional_scan(x, delta, A, B, C, D, z, delta_bias, delta_softplus, direction)
        for A, direction in walks
    ]
    return sum(scans[1:], scans[0])[:, 0]


def _side(
    given: Tensor | None,
    bias: Tensor | None,
    norm_weight: Tensor | None,
    projected: Tensor,
    eps: float,
    x: Tensor,
) -> Tensor:
    """Return B or C: the given constant, or the projection of the map."""
    if given is None:
        found = projected if bias is None else projected + bias.to(projected.dtype)
        return _norm(found, norm_weight, eps).to(x.dtype)
    if given.dim() != 2:
        raise ValueError(
            'B and C must be (E, N), or None to be taken from the map, but one has shape '
            f'{tuple(given.shape)}'
        )
    return given


def _norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Apply an RMSNorm to the last axis if there is a weight, computed in the dtype of states."""
    if weight is None:
        return x
    with without_autocast(x):
        exact = x.to(state_dtype(x))
        return F.rms_norm(exact, x.shape[-1:], weight.to(exact.dtype), eps).to(x.dtype)
