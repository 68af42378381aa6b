"""What both translations need of the values of an ONNX graph."""

from typing import Any

import onnx_ir as ir
from onnxscript import opset18 as op

__all__ = ['in_dtype', 'state_type', 'times_silu']


def state_type(x: Any) -> ir.DataType:
    """The dtype of states and sums, see :func:`mmv2m.ops.precision.state_dtype`."""
    return ir.DataType.DOUBLE if x.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT


def in_dtype(x: Any, dtype: ir.DataType) -> Any:
    """A value in a dtype; itself if it has that already."""
    return x if x.dtype == dtype else op.Cast(x, to=dtype)


def times_silu(x: Any, gate: Any) -> Any:
    """``x * gate * sigmoid(gate)``; for a map alone, ``x`` is None."""
    opened = op.Mul(gate, op.Sigmoid(gate))
    return opened if x is None else op.Mul(x, opened)
