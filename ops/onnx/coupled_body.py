"""One row of the coupled scan: the graph inside ONNX's ``Scan``, which contains another ``Scan``.

A row is a line of the map along the corner's first direction, of ``J`` tokens. For corners that
walk up or down first, it is a column of the map.
"""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from .recorder import Recorder

__all__ = ['coupled_body']

_TOKENS = ('columns', 'images')
"""Names of the sizes J and images, which differ from call to call."""


def coupled_body(
    before_row: Any,
    terms: Sequence[tuple[Any, Any]],
    reverse: bool,
    dtype: ir.DataType,
    sizes: tuple[int, int],
) -> ir.Graph:
    """Make the graph that computes both states of a row from ``q`` of the row before.

    The graph's inputs are ``q`` of the row before, (J, images, 1, N, E), and for all tokens of the
    row their steps and drives, (J, images, 2, E), B, (J, images, 2, N), and C, (J, images, 1, 2 N).
    Its outputs are ``q`` of this row, and the states' sum by C, (J, images, 1, E). Only ``p`` needs
    a walk along the row. What ``q`` of the row before adds to ``p`` is computed for all columns
    before that walk, and ``q`` of this row is computed after it.

    Args:
        before_row: ``p`` in front of the row, (images, 1, N, E) zeros, from outside of the graph.
        terms: A, (2, N, E), and the weight, (2, 1, E), of both states, for the part that comes from
            ``p``, and then for the part that comes from ``q``; from outside of the graph.
        reverse: Whether the walk along a row goes backwards.
        dtype: Dtype of all values.
        sizes: N and E.
    """
    row, (states, channels) = Recorder(dtype, 'row'), sizes
    q_before = row.input('state', *_TOKENS, 1, states, channels)
    steps, drives = (row.input(name, *_TOKENS, 2, channels) for name in ('steps', 'drives'))
    B = row.input('B', *_TOKENS, 2, states)
    C = row.input('C', *_TOKENS, 1, 2 * states)

    from_p, from_q = _decays(row, steps, terms)
    from_above = row.add('Mul', from_q, q_before, to='from_above')
    given = row.add('Add', from_above, _inflow(row, drives, B), to='given')
    p_before = _walk(row, before_row, from_p, given, reverse, sizes)
    kept = row.add('Mul', from_p, p_before, to='kept')
    both = row.add('Add', kept, given, to='both')
    q = _one_state(row, 1, both, 'q', sizes)
    flat = row.constant('flat', 0, 0, 2 * states, channels)  # a 0 leaves the size as it is
    both = row.add('Reshape', both, flat, to='flat_both')
    y = row.add('MatMul', C, both, to=row.value('output', *_TOKENS, 1, channels))
    return row.graph(q, y)


def _decays(row: Recorder, steps: ir.Value, terms: Sequence[tuple[Any, Any]]) -> list[ir.Value]:
    """Factors of ``p`` and of ``q`` in both new states, each (J, images, 2, N, E)."""
    steps = row.add('Unsqueeze', steps, row.constant('second', -2), to='steps_of_states')
    found = []
    for name, (A, weight) in zip('pq', terms, strict=True):
        exponent = row.add('Mul', steps, A, to=f'exponent_{name}')
        decay = row.add('Exp', exponent, to=f'decay_{name}')
        found.append(row.add('Mul', decay, weight, to=f'from_{name}'))
    return found


def _inflow(row: Recorder, drives: ir.Value, B: ir.Value) -> ir.Value:
    """The part of both states that comes from the input, (J, images, 2, N, E)."""
    drives = row.add('Unsqueeze', drives, row.constant('states', -2), to='drives_of_states')
    B = row.add('Unsqueeze', B, row.constant('last', -1), to='B_of_channels')
    return row.add('Mul', drives, B, to='inflow')


def _walk(
    row: Recorder,
    before_row: Any,
    from_p: ir.Value,
    given: ir.Value,
    reverse: bool,
    sizes: tuple[int, int],
) -> ir.Value:
    """Walk along a row, and return ``p`` before each token, (J, images, 1, N, E)."""
    keeps, given = (
        _one_state(row, 0, both, name, sizes)
        for name, both in (('p_keeps', from_p), ('p_given', given))
    )
    _, p_before = row.add_several(
        *('Scan', before_row, keeps, given),
        to=('last_p', 'p_before'),
        body=_step(row.dtype, sizes),
        num_scan_inputs=2,
        scan_input_directions=[int(reverse)] * 2,
        scan_output_directions=[int(reverse)],
    )
    return p_before


def _one_state(
    row: Recorder, k: int, both: ir.Value, name: str, sizes: tuple[int, int]
) -> ir.Value:
    """Slice state k out of (J, images, 2, N, E), as (J, images, 1, N, E)."""
    bounds = (('start', k), ('end', k + 1), ('axis', 2))
    where = [row.constant(f'{bound}_of_{name}', number) for bound, number in bounds]
    return row.add('Slice', both, *where, to=row.value(name, *_TOKENS, 1, *sizes))


def _step(dtype: ir.DataType, sizes: tuple[int, int]) -> ir.Graph:
    """Make the graph for one token of a row, ``p = keeps * p + given``.

    Its inputs are ``p``, ``keeps`` and ``given``, all (images, 1, N, E). Its outputs are the new
    ``p`` and the ``p`` before it.
    """
    step, shape = Recorder(dtype, 'step'), ('images', 1, *sizes)
    before, keeps, given = (step.input(name, *shape) for name in ('p', 'keeps', 'given'))
    kept = step.add('Mul', keeps, before, to='kept')
    after = step.add('Add', kept, given, to=step.value('after', *shape))
    # If an output is the input itself, onnxruntime 1.32 returns zeros without an error.
    result = step.add('Identity', before, to=step.value('before', *shape))
    return step.graph(after, result)
