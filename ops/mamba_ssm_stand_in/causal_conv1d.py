"""A stand-in for the package causal_conv1d, with its function for whole sequences."""

import torch.nn.functional as F
from torch import Tensor

from ..directional_conv import directional_conv

__all__ = ['causal_conv1d_fn', 'causal_conv1d_update']

causal_conv1d_update = None
"""The step for one token. Official mixers use a plain one of their own if it is None."""


def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """Apply a causal depthwise convolution to sequences.

    Args:
        x: (B, D, L).
        weight: (D, K).
        bias: (D,), or None.
        seq_idx: Must be None.
        initial_states: Must be None.
        return_final_states: Must be False.
        final_states_out: Must be None.
        activation: ``'silu'``, ``'swish'`` (the same) or None.

    Returns:
        (B, D, L).

    Raises:
        NotImplementedError: If packed sequences or states are asked for.
        ValueError: If there is no such activation.
    """
    if return_final_states or any(
        t is not None for t in (seq_idx, initial_states, final_states_out)
    ):
        raise NotImplementedError(
            'this stand-in supports no packed sequences and no states of a convolution; install '
            'causal_conv1d for them'
        )
    if activation in ('silu', 'swish'):
        return directional_conv(x.transpose(1, 2)[:, None], weight, bias)[:, 0].transpose(1, 2)
    if activation is not None:
        raise ValueError(f"activation must be None, 'silu' or 'swish', but is {activation!r}")
    taps = weight.shape[-1]
    bias = None if bias is None else bias.to(x.dtype)
    weight = weight.to(x.dtype)[:, None]
    return F.conv1d(F.pad(x, (taps - 1, 0)), weight, bias, groups=x.shape[1])
