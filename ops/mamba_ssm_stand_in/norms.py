"""A stand-in for ``mamba_ssm.ops.triton.layer_norm`` in plain PyTorch, for use without a GPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..precision import state_dtype

__all__ = ['RMSNorm', 'layer_norm_fn', 'rms_norm_fn']


def layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    *,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    eps: float = 1e-6,
    is_rms_norm: bool = False,
    **others: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Apply LayerNorm or RMSNorm to the sum of ``x`` and ``residual``, computed in float32.

    Args:
        x: (..., D).
        weight: (D,).
        bias: (D,), or None.
        residual: Like ``x``, or None.
        prenorm: Whether to return the sum too.
        residual_in_fp32: Whether the sum is returned in float32 if there is no ``residual``.
        eps: Epsilon of the norm.
        is_rms_norm: Whether the norm is an RMSNorm instead of a LayerNorm.
        others: Settings of newer versions, which must be at their defaults.

    Returns:
        (..., D) in the dtype of ``x``. With ``prenorm``, a pair of that and the sum. The sum has
        the dtype of ``residual`` if there is one.

    Raises:
        NotImplementedError: If another setting is given.
    """
    asked = [name for name, value in others.items() if isinstance(value, Tensor) or value]
    if asked:
        raise NotImplementedError(f'this stand-in does not support {", ".join(asked)}')
    exact = x.to(state_dtype(x))
    kept_dtype = exact.dtype if residual_in_fp32 else x.dtype
    if residual is not None:
        exact, kept_dtype = exact + residual, residual.dtype
    kept = exact.to(kept_dtype)
    scale = weight.to(exact.dtype)
    offset = None if bias is None else bias.to(exact.dtype)
    if is_rms_norm:
        y = F.rms_norm(exact, exact.shape[-1:], scale, eps)
        y = y if offset is None else y + offset
    else:
        y = F.layer_norm(exact, exact.shape[-1:], scale, offset, eps)
    return (y.to(x.dtype), kept) if prenorm else y.to(x.dtype)


def rms_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    **settings: Any,
) -> Tensor | tuple[Tensor, Tensor]:
    """Call :func:`layer_norm_fn` with an RMSNorm."""
    return layer_norm_fn(x, weight, bias, residual, is_rms_norm=True, **settings)


class RMSNorm(nn.Module):
    """An RMSNorm with the arguments of mamba_ssm's class.

    Args:
        hidden_size: Number of channels.
        eps: Epsilon of the norm.
        device: Device of the weight.
        dtype: Dtype of the weight.
    """

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter('bias', None)

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        prenorm: bool = False,
        residual_in_fp32: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """See :func:`rms_norm_fn`."""
        settings = dict(prenorm=prenorm, residual_in_fp32=residual_in_fp32, eps=self.eps)
        return rms_norm_fn(x, self.weight, None, residual, **settings)
