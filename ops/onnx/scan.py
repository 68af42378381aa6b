"""The directional scan as ONNX."""

from typing import Any

import onnx_ir as ir
from onnxscript import opset18 as op

from ..directions import get_direction
from .recorder import record_scan
from .scan_body import scan_body
from .values import in_dtype, state_type, times_silu

__all__ = ['translate_scan']


def translate_scan(
    x: Any,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any,
    z: Any,
    delta_bias: Any,
    delta_softplus: bool,
    direction: str,
    backend: str,
) -> Any:
    """Record :func:`mmv2m.ops.directional_scan` as one ``Scan``, with the other steps around it.

    ONNX's ``Scan`` walks forwards or backwards, so no map is flipped. Without it, a scan would have
    about 12 nodes per step, and would take longer.

    Args:
        x: (B, H, W, E).
        delta: Like ``x``.
        A: (E, N).
        B: (B, H, W, N) per token; (E, N) if it is constant; or None.
        C: Like ``B``.
        D: (E,), or None.
        z: Like ``x``, or None.
        delta_bias: (E,), or None.
        delta_softplus: Whether ``delta`` goes through a softplus.
        direction: Name of the direction.
        backend: Not read.

    Returns:
        (B, H, W, E) in the dtype of ``x``.
    """
    walk, dtype = get_direction(direction), state_type(x)
    u = in_dtype(x, dtype)
    step = in_dtype(delta, dtype)
    step = step if delta_bias is None else op.Add(step, delta_bias)
    step = op.Softplus(step) if delta_softplus else step
    per_token = [p is not None and len(p.shape) == 4 for p in (B, C)]
    sides = [None if p is None else in_dtype(p, dtype) for p in (B, C)]
    sides_of_tokens = [p for p, varies in zip(sides, per_token, strict=True) if varies]
    maps = [step, op.Mul(step, u), *sides_of_tokens]
    # Along axis 1 of an empty batch, onnxruntime 1.32 divides by zero, which ends the process. So
    # the steps come first here; onnxruntime would copy the maps for that anyway.
    axis = 0 if walk.axis == 1 else walk.axis
    if axis == 0:
        maps = [op.Transpose(m, perm=[1, 0, 2, 3]) for m in maps]

    channels, states = A.shape
    constant_sides = [
        None if p is None or varies else op.Transpose(p, perm=[1, 0])
        for p, varies in zip(sides, per_token, strict=True)
    ]
    A = op.Transpose(A, perm=[1, 0])
    body = scan_body(A, constant_sides, per_token, dtype, (states, channels))
    images, lanes = (op.Shape(x, start=i, end=i + 1) for i in (0, walk.lanes))
    shape = op.Concat(images, lanes, op.Constant(value_ints=[states, channels]), axis=0)
    zero = op.Constant(value=ir.tensor([0.0], dtype=dtype))
    y = record_scan(
        op.Expand(zero, shape),
        *maps,
        body=body,
        num_scan_inputs=len(maps),
        scan_input_axes=[axis] * len(maps),
        scan_input_directions=[int(walk.reverse)] * len(maps),
        scan_output_axes=[axis],
        scan_output_directions=[int(walk.reverse)],
    )
    y = op.Transpose(y, perm=[1, 0, 2, 3]) if axis == 0 else y
    y = y if D is None else op.Add(y, op.Mul(u, D))
    y = y if z is None else times_silu(y, in_dtype(z, dtype))
    return y if x.dtype == dtype else op.Cast(y, to=x.dtype)
