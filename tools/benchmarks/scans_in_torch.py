"""The functions that official code takes from mamba_ssm, slow and exact, in plain PyTorch."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    'RMSNorm',
    'layer_norm_fn',
    'mamba_inner_fn_no_out_proj',
    'rms_norm_fn',
    'selective_scan_fn',
]


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor:
    """Mamba's scan along the last axis, without its last state.

    Args:
        u: The sequences, (B, E, L).
        delta: The time steps, (B, E, L).
        A: The rates, (E, N).
        B: The input matrices, (B, N, L).
        C: The output matrices, (B, N, L).
        D: Weights of the skip connection, (E,).
        z: Input of the gate, (B, E, L).
        delta_bias: Bias of the time steps, (E,).
        delta_softplus: Whether the time steps go through softplus.
        return_last_state: Must be False.

    Returns:
        The output, (B, E, L).
    """
    if return_last_state:
        raise NotImplementedError('the last state is not returned')
    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    delta = F.softplus(delta) if delta_softplus else delta
    decay = torch.exp(torch.einsum('bel,en->lben', delta, A))
    added = torch.einsum('bel,bnl->lben', delta * u, B)
    state, outputs = torch.zeros_like(decay[0]), []
    for step, (keep, add) in enumerate(zip(decay, added, strict=True)):
        state = keep * state + add
        outputs.append(torch.einsum('ben,bn->be', state, C[..., step]))
    y = torch.stack(outputs, -1)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * F.silu(z)


def mamba_inner_fn_no_out_proj(
    xz: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    A: Tensor,
    B: None = None,
    C: None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    """Run Mamba's mixer between its projections, from (B, 2 E, L) to (B, E, L)."""
    x, z = xz.chunk(2, 1)
    taps = conv_weight.shape[-1]
    x = F.silu(F.conv1d(F.pad(x, (taps - 1, 0)), conv_weight, conv_bias, groups=x.shape[1]))
    rank, states = dt_proj.shape[1], A.shape[1]
    dt, B_, C_ = torch.einsum('bel,re->brl', x, x_proj).split((rank, states, states), 1)
    delta = torch.einsum('brl,er->bel', dt, dt_proj)
    return selective_scan_fn(x, delta, A, B_, C_, D, z, delta_bias, **settings)


class RMSNorm(nn.Module):
    """mamba_ssm's RMS norm."""

    def __init__(self, hidden_size: int, eps: float = 1e-5, **_: Any) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.register_parameter('bias', None)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return rms_norm_fn(x, self.weight, None, eps=self.eps)


def rms_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: None,
    residual: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    eps: float = 1e-6,
) -> Any:
    """Return the norm of a sum, and with ``prenorm`` also the sum."""
    x = x if residual is None else x + residual
    y = F.rms_norm(x, x.shape[-1:], weight, eps)
    return (y, x) if prenorm else y


def layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    eps: float = 1e-6,
) -> Any:
    """Return the norm of a sum, and with ``prenorm`` also the sum."""
    x = x if residual is None else x + residual
    y = F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    return (y, x) if prenorm else y
