"""One step of the scan: the graph inside ONNX's ``Scan``."""

from collections.abc import Sequence

import onnx_ir as ir

from .recorder import Recorder

__all__ = ['scan_body']


def scan_body(
    A: ir.Value,
    constant_sides: Sequence[ir.Value | None],
    per_token: Sequence[bool],
    dtype: ir.DataType,
    sizes: tuple[int, int],
) -> ir.Graph:
    """Make the graph for one step, ``h = exp(step * A) * h + drive * B``.

    Its inputs are the state, the step and the drive of a token of each lane, and B and C if they
    depend on the token. Its outputs are the new state, and the sum over the states by ``C``.
    Channels come last, so that a sum over states adds rows.

    Args:
        A: (N, E), from outside of the graph.
        constant_sides: B and C, (N, E), from outside of the graph; None if they depend on the
            token, or are the constant 1.
        per_token: Whether B, and whether C, depends on the token.
        dtype: Dtype of all values.
        sizes: N and E.
    """
    body, (states, channels) = Recorder(dtype, 'step'), sizes
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
    if C is not None and per_token[1]:  # a row times the states is a weighted sum over them
        row = body.add('Unsqueeze', C, second, to='C_row')
        body.add('Squeeze', body.add('MatMul', row, after, to='sum'), second, to=y)
    else:
        read = after if C is None else body.add('Mul', after, C, to='read')
        body.add('ReduceSum', read, second, to=y, keepdims=0)
    return body.graph(after, y)
