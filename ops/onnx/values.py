"""Helpers for the values of an ONNX graph, which all translations share."""

from typing import Any

import onnx_ir as ir
from onnxscript import opset18 as op

__all__ = ['in_dtype', 'state_type', 'times_silu']


def state_type(x: Any) -> ir.DataType:
    """The dtype of states and sums; see :func:`mmv2m.ops.precision.state_dtype`."""
    return ir.DataType.DOUBLE if x.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT


def in_dtype(x: Any, dtype: ir.DataType) -> Any:
    """Cast a value to a dtype, unless it has that dtype already."""
    return x if x.dtype == dtype else op.Cast(x, to=dtype)


def times_silu(x: Any, gate: Any) -> Any:
    """Record ``x * gate * sigmoid(gate)``, or ``gate * sigmoid(gate)`` if ``x`` is None."""
    opened = op.Mul(gate, op.Sigmoid(gate))
    return opened if x is None else op.Mul(x, opened)
