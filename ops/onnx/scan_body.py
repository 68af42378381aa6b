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
    if C is not None and per_token[1]:  # one row times the states: a sum over them
        row = body.add('Unsqueeze', C, second, to='C_row')
        body.add('Squeeze', body.add('MatMul', row, after, to='sum'), second, to=y)
    else:
        read = after if C is None else body.add('Mul', after, C, to='read')
        body.add('ReduceSum', read, second, to=y, keepdims=0)
    return body.graph(after, y)
