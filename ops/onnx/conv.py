"""The directional convolution as ONNX."""

from typing import Any

from onnxscript import opset18 as op

from ..directions import get_direction
from .values import in_dtype, state_type, times_silu

__all__ = ['translate_conv']


def translate_conv(x: Any, weight: Any, bias: Any, direction: str, backend: str) -> Any:
    """Record :func:`mmv2m.ops.directional_conv` as a grouped ``Conv`` and a SiLU.

    Args:
        x: (B, H, W, E).
        weight: (E, K).
        bias: (E,), or None.
        direction: Name of the direction.
        backend: Not read.

    Returns:
        (B, H, W, E) in the dtype of ``x``.
    """
    walk, dtype = get_direction(direction), state_type(x)
    channels, taps = weight.shape
    if walk.reverse:
        weight = op.Slice(weight, [-1], [-taps - 1], [1], [-1])
    kernel = (taps, 1) if walk.axis == 1 else (1, taps)
    weight = op.Reshape(weight, [channels, 1, *kernel])
    before = [taps - 1 if walk.axis == axis and not walk.reverse else 0 for axis in (1, 2)]
    behind = [taps - 1 if walk.axis == axis and walk.reverse else 0 for axis in (1, 2)]
    y = op.Conv(
        op.Transpose(in_dtype(x, dtype), perm=[0, 3, 1, 2]),
        weight,
        bias,
        group=channels,
        kernel_shape=list(kernel),
        pads=[*before, *behind],
    )
    y = times_silu(None, op.Transpose(y, perm=[0, 2, 3, 1]))
    return y if x.dtype == dtype else op.Cast(y, to=x.dtype)
