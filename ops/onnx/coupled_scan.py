"""The coupled scan as ONNX."""

from typing import Any

import onnx_ir as ir
from onnxscript import opset18 as op

from ..directions import Corner, read_corners
from .coupled_body import coupled_body
from .recorder import record_scan
from .values import in_dtype, state_type

__all__ = ['translate_coupled']


def translate_coupled(
    x: Any,
    delta: Any,
    A: Any,
    weight: Any,
    B: Any,
    C: Any,
    D: Any,
    delta_bias: Any,
    delta_softplus: bool,
    corners: str,
    backend: str,
) -> Any:
    """Record :func:`mmv2m.ops.coupled_scan` as two nested ``Scan`` nodes for each corner.

    The outer one walks along the corner's second direction, the inner one along its first. Both
    walk forwards or backwards, so no map is flipped.

    Args:
        x: (K, B, H, W, E).
        delta: (2, K, B, H, W, E).
        A: (2, 2, E, N).
        weight: (2, 2, E).
        B: (K, B, H, W, 2, N).
        C: Like ``B``.
        D: (E,), or None.
        delta_bias: (2, E), or None.
        delta_softplus: Whether ``delta`` goes through a softplus.
        corners: K corners as text; see :func:`..directions.write_corners`.
        backend: Not read.

    Returns:
        (K, B, H, W, E) in the dtype of ``x``.
    """
    dtype = state_type(x)
    u, sides = in_dtype(x, dtype), [in_dtype(side, dtype) for side in (B, C)]
    steps = _time_steps(in_dtype(delta, dtype), delta_bias, delta_softplus)
    drives = op.Mul(steps, u)
    terms = [_terms_of(source, A, weight) for source in (0, 1)]
    sizes = (A.shape[3], A.shape[2])
    maps = []
    for k, corner in enumerate(read_corners(corners)[0].corners):
        found = [_one_map(m, k, 1) for m in (steps, drives)] + [_one_map(m, k, 0) for m in sides]
        y = _scan(_rows_first(found, corner), terms, corner, dtype, sizes)
        maps.append(op.Unsqueeze(y, [0]))
    y = op.Concat(*maps, axis=0)
    y = y if D is None else op.Add(y, op.Mul(u, D))
    return y if x.dtype == dtype else op.Cast(y, to=x.dtype)


def _time_steps(delta: Any, bias: Any, softplus: bool) -> Any:
    """Record the time steps of both states, (2, K, B, H, W, E), from ``delta``."""
    steps = delta if bias is None else op.Add(delta, op.Unsqueeze(bias, [1, 2, 3, 4]))
    return op.Softplus(steps) if softplus else steps


def _terms_of(source: int, A: Any, weight: Any) -> tuple[Any, Any]:
    """A, (2, N, E), and weight, (2, 1, E), by which one state enters both states."""
    A, weight = _one_map(A, source, 1), _one_map(weight, source, 1)
    return op.Transpose(A, perm=[0, 2, 1]), op.Unsqueeze(weight, [1])


def _one_map(maps: Any, index: int, axis: int) -> Any:
    """Select an index of an axis, which is then left out."""
    return op.Gather(maps, op.Constant(value_int=index), axis=axis)


def _rows_first(tokens: list[Any], corner: Corner) -> list[Any]:
    """Transpose the maps of one corner for its two walks; see :func:`.coupled_body`.

    The axis of the second walk comes first, then the axis of the first walk, and then the images.
    Along axis 1 of an empty batch, onnxruntime 1.32 divides by zero, which ends the process.

    Args:
        tokens: Steps and drives, (2, B, H, W, E); B and C, (B, H, W, 2, N).
        corner: The corner.
    """
    walks = [corner.second.axis, corner.first.axis]
    of_states = [op.Transpose(m, perm=[*(a + 1 for a in walks), 1, 0, 4]) for m in tokens[:2]]
    return of_states + [op.Transpose(m, perm=[*walks, 0, 3, 4]) for m in tokens[2:]]


def _scan(
    tokens: list[Any],
    terms: list[tuple[Any, Any]],
    corner: Corner,
    dtype: ir.DataType,
    sizes: tuple[int, int],
) -> Any:
    """Record the sum over the states of one corner, (B, H, W, E), given :func:`_rows_first`."""
    steps, drives, B, C = tokens
    C = op.Reshape(C, [0, 0, 0, 1, 2 * sizes[0]])  # a 0 leaves the size as it is
    before_row, above = (_zeros(steps, start, dtype, sizes) for start in (2, 1))
    body = coupled_body(before_row, terms, corner.first.reverse, dtype, sizes)
    y = record_scan(
        *(above, steps, drives, B, C),
        body=body,
        num_scan_inputs=4,
        scan_input_directions=[int(corner.second.reverse)] * 4,
        scan_output_directions=[int(corner.second.reverse)],
    )
    y = op.Squeeze(y, [3])
    return op.Transpose(y, perm=[2, 0, 1, 3] if corner.second.axis == 1 else [2, 1, 0, 3])


def _zeros(maps: Any, start: int, dtype: ir.DataType, sizes: tuple[int, int]) -> Any:
    """Record states of zero for the edge of a map.

    Their sizes are the map's from axis ``start`` to the images, and then 1, N and E.
    """
    shape = op.Concat(
        op.Shape(maps, start=start, end=3), op.Constant(value_ints=[1, *sizes]), axis=0
    )
    return op.Expand(op.Constant(value=ir.tensor([0.0], dtype=dtype)), shape)
