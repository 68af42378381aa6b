"""One step of the scan: the graph inside ONNX's ``Scan``."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

__all__ = ['scan_body']


class _Step:
    """Records the nodes of a step; every value has a name of its own, as ONNX demands.

    Args:
        dtype: Of all values.
    """

    def __init__(self, dtype: ir.DataType) -> None:
        self.dtype = dtype
        self.nodes: list[ir.Node] = []
        self.inputs: list[ir.Value] = []

    def value(self, name: str, *sizes: int | str) -> ir.Value:
        """A value of the step; sizes that may differ from call to call have names."""
        kind = ir.TensorType(self.dtype)
        return ir.Value(name=f'step_{name}', type=kind, shape=ir.Shape(sizes))

    def input(self, name: str, *sizes: int | str) -> ir.Value:
        """A value that the step is given."""
        self.inputs.append(self.value(name, *sizes))
        return self.inputs[-1]

    def constant(self, name: str, number: int) -> ir.Value:
        """An int64 vector of one element, which axes are given as."""
        value = ir.Value(name=f'step_{name}', type=ir.TensorType(ir.DataType.INT64))
        tensor = ir.AttrTensor('value', ir.tensor([number], dtype=ir.DataType.INT64))
        self.nodes.append(ir.node('Constant', [], {'value': tensor}, outputs=[value]))
        return value

    def add(self, kind: str, *inputs: ir.Value, to: ir.Value | str, **attributes: Any) -> ir.Value:
        """A node's output, which is new if only its name is given."""
        if isinstance(to, str):
            to = ir.Value(name=f'step_{to}', type=ir.TensorType(self.dtype))
        self.nodes.append(ir.node(kind, inputs, attributes, outputs=[to]))
        return to


def scan_body(
    A: ir.Value,
    constant_sides: Sequence[ir.Value | None],
    per_token: Sequence[bool],
    dtype: ir.DataType,
    sizes: tuple[int, int],
) -> ir.Graph:
    """``h = exp(step * A) * h + drive * B``, whose sum over the states by ``C`` is the output.

    Takes the state and for each token of a lane its step, its drive and, if there is one a token,
    B and C; returns the new state and the output. Channels stand last, so that a sum over states
    adds rows.

    Args:
        A: (N, E), read from outside of the body.
        constant_sides: B and C, (N, E), read from outside; None if one a token, or the constant 1.
        per_token: Whether B and whether C are one a token.
        dtype: Of all values.
        sizes: N and E.
    """
    body, (states, channels) = _Step(dtype), sizes
    lanes = ('images', 'lanes')
    before = body.input('state', *lanes, states, channels)
    step, drive = (body.input(name, *lanes, channels) for name in ('delta', 'drive'))
    sides = [
        body.input(name, *lanes, states) if varies else p
        for name, p, varies in zip('BC', constant_sides, per_token, strict=True)
    ]
    second, last = body.constant('second', -2), body.constant('last', -1)

    step, drive = (
        body.add('Unsqueeze', p, second, to=f'{name}_of_states')
        for name, p in (('delta', step), ('drive', drive))
    )
    decay = body.add('Exp', body.add('Mul', step, A, to='exponent'), to='decay')
    kept = body.add('Mul', decay, before, to='kept')
    B, C = sides
    if B is not None:
        B = body.add('Unsqueeze', B, last, to='B_of_channels') if per_token[0] else B
        drive = body.add('Mul', drive, B, to='inflow')
    after = body.add('Add', kept, drive, to=body.value('new_state', *lanes, states, channels))

    y = body.value('output', *lanes, channels)
    if C is not None and per_token[1]:  # one row times the states: a sum over them
        row = body.add('Unsqueeze', C, second, to='C_row')
        body.add('Squeeze', body.add('MatMul', row, after, to='sum'), second, to=y)
    else:
        read = after if C is None else body.add('Mul', after, C, to='read')
        body.add('ReduceSum', read, second, to=y, keepdims=0)
    return ir.Graph(body.inputs, [after, y], nodes=body.nodes, name='scan_step')
