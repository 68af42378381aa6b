"""Long lanes on the CUDA C++ kernels: segments, what crosses their edges, and gates."""

import naive
import pytest
import torch
from cuda_emulation import needs_a_device

pytest.importorskip('triton')
from cuda_scans import (  # noqa: E402
    TOLERANCE,
    cut_into_segments,
    make_problem,
)

from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.cuda.scan_backward_single import segment_steps, takes_single_states  # noqa: E402
from mmv2m.ops.cuda.scan_edges import SegmentEdges  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.gpu.segments import Segments  # noqa: E402
from mmv2m.ops.runtime.launch import launch  # noqa: E402

KERNELS = Kernels(cuda, triton)
"""Of Triton's, only the gate is needed."""

SEGMENT = 32
"""Steps of a whole segment, of maps in float32."""


def results(inputs, grad_y, sums=False):
    """Output and gradients."""
    gradients = KERNELS.scans_backward(grad_y, inputs, sums)
    names = [name for name in gradients if name not in ('x', 'delta', 'z')]
    summed = cuda.sum_rows([gradients[name] for name in names])
    gradients.update(zip(names, summed, strict=True))
    return dict(gradients, y=cuda.scans_forward(inputs, sums))


def compare(shape, states, directions, sums=False, dtype=torch.float32, **kinds):
    inputs, grad_y, truth = make_problem(shape, states, directions, sums, dtype, **kinds)
    found = results(inputs, grad_y, sums)
    for name, expected in truth.items():
        assert naive.relative_error(found[name].cpu(), expected) < TOLERANCE[dtype], name
    return inputs


@needs_a_device
@pytest.mark.parametrize('states', [1, 2, 4, 8, 16])
@pytest.mark.parametrize('direction', ['right', 'up'])
def test_gated_scans_in_segments(states, direction, monkeypatch):
    """Nineteen steps in segments of seven, seven and five."""
    cut_into_segments(monkeypatch, 6)
    shape = (2, 1, 19, 6) if direction == 'right' else (1, 19, 2, 6)
    compare(shape, states, [direction], gated=True)


@needs_a_device
@pytest.mark.parametrize('length', [SEGMENT + 1, 2 * SEGMENT, 3 * SEGMENT - 13])
@pytest.mark.parametrize('directions', [['right'], ['left', 'right']])
def test_single_states(length, directions):
    """Whole segments, and one that leaves warps without a step."""
    inputs = compare((1, 1, length, 5), 1, directions, gated=len(directions) == 1)
    assert takes_single_states(inputs) and segment_steps(inputs) == SEGMENT


@needs_a_device
@pytest.mark.parametrize(('B', 'C'), [('token', None), (None, 'token'), (None, None)])
def test_single_states_along_columns(B, C, monkeypatch):
    """In segments forward too."""
    cut_into_segments(monkeypatch, 6)
    compare((2, SEGMENT + 9, 2, 6), 1, ['up'], gated=C is None, B=B, C=C)


@needs_a_device
@pytest.mark.parametrize(('length', 'direction'), [(1, 'right'), (14, 'left'), (SEGMENT, 'down')])
def test_gated_single_states_of_short_lanes(length, direction):
    """A lane is a segment, for which fewer warps may be enough."""
    shape = (1, 3, length, 6) if direction != 'down' else (1, length, 3, 6)
    assert takes_single_states(compare(shape, 1, [direction], gated=True))


@needs_a_device
@pytest.mark.parametrize('sums', [False, True])
def test_single_states_of_lanes_within_a_segment(sums):
    """Of maps in half precision, a segment is twice as long, and seven warps serve such a lane."""
    inputs = compare((1, 2, 56, 6), 1, ['right', 'left'], sums=sums, dtype=torch.bfloat16)
    assert takes_single_states(inputs) and segment_steps(inputs) == 2 * SEGMENT


@needs_a_device
def test_single_states_summed_over_directions():
    compare((1, 2, SEGMENT + 11, 70), 1, ['right', 'left'], sums=True, B='token', C=None)


@needs_a_device
@pytest.mark.parametrize('channels', [5, 72])
def test_single_states_in_half_precision(channels):
    shape = (1, 1, 4 * SEGMENT - 3, channels)
    compare(shape, 1, ['left'], dtype=torch.bfloat16, gated=True, B='token', C=None)


@needs_a_device
@pytest.mark.parametrize('softplus', ['none', 'applied'])
def test_steps_that_are_not_there_add_nothing_to_the_bias(softplus):
    """Without a softplus, what is made of missing steps is not zero by itself."""
    inputs, grad_y, _ = make_problem((1, 1, SEGMENT + 5, 6), 1, ['left'], False, torch.float32)
    inputs.softplus = softplus
    if softplus == 'applied':
        inputs.delta = inputs.delta.abs()
    found = results(inputs, grad_y)
    in_tokens = found['delta'].double().sum((0, 1, 2, 3))
    torch.testing.assert_close(found['delta_bias'].double(), in_tokens, rtol=1e-4, atol=1e-4)


@needs_a_device
def test_logarithm_of_A_of_single_states():
    inputs, grad_y, truth = make_problem(
        (1, 1, SEGMENT + 2, 6), 1, ['right'], False, torch.float32, gated=True
    )
    A = inputs.A.cpu().double()
    inputs.A, inputs.log_A = (-inputs.A).log(), True
    truth['A'] = truth['A'] * A
    found = results(inputs, grad_y)
    for name, expected in truth.items():
        assert naive.relative_error(found[name].cpu(), expected) < 1e-5, name


@needs_a_device
def test_gates_between_other_maps():
    """The gate is half of a wider map."""
    inputs, grad_y, truth = make_problem(
        (2, 1, SEGMENT + 3, 8), 1, ['left'], False, torch.float32, gated=True
    )
    wide = torch.full((*inputs.z.shape[:-1], 16), torch.nan, device=inputs.z.device)
    wide[..., 8:] = inputs.z
    inputs.z, inputs.z_token = wide[..., 8:], 16
    found = results(inputs, grad_y)
    for name, expected in truth.items():
        assert naive.relative_error(found[name].cpu(), expected) < 1e-5, name


@needs_a_device
@pytest.mark.parametrize('direction', ['right', 'left'])
@pytest.mark.parametrize('segments', [2, 37])
def test_edges_of_many_segments(direction, segments):
    """More than a warp of the chain loads at once; the states are those of the scan itself."""
    shape = (1, 1, 2 * segments, 3)
    inputs, grad_y, _ = make_problem(shape, 1, [direction], False, torch.float32, C=None)
    edges = SegmentEdges(inputs, Segments(segments, 2), grad_y)
    for call in edges.calls():
        launch(call, grad_y.device)
    inputs.D = None
    states = cuda.scans_forward(inputs)[0, 0, 0]  # what they are read out as
    entered = edges.states[:, :, 0]
    if direction == 'left':
        states, entered = states.flip(0), entered.flip(0)
    before = states[1:-1:2]
    assert not entered[0].any()
    torch.testing.assert_close(entered[1:], before, rtol=1e-5, atol=1e-6)


@needs_a_device
def test_runs_agree_to_the_bit():
    shape = (2, 1, 2 * SEGMENT + 1, 40)
    inputs, grad_y, _ = make_problem(shape, 1, ['left'], False, torch.float32, gated=True)
    first, second = results(inputs, grad_y), results(inputs, grad_y)
    assert all(torch.equal(first[n], second[n]) for n in first if first[n] is not None)
