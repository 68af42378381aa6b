import itertools

import naive
import pytest
import torch
from scan_inputs import make_inputs

from mmv2m.ops import DIRECTIONS, directional_scan, directional_scan_reference

# Rounding of inputs and outputs; states are float32 throughout.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
SHAPES = [(2, 3, 5, 4), (1, 1, 7, 3), (2, 4, 1, 1), (1, 2, 2, 5)]


def run_naive(inputs, direction):
    renamed = {k: v for k, v in inputs.items() if k not in ('delta_bias', 'delta_softplus')}
    bias, softplus = inputs.get('delta_bias'), inputs.get('delta_softplus', False)
    return naive.scan(**renamed, bias=bias, use_softplus=softplus, way=direction)


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('states', [1, 2, 8, 16])
def test_agrees_with_the_equations(direction, shape, states):
    inputs = make_inputs(shape, states)
    y = directional_scan(**inputs, direction=direction)
    assert naive.relative_error(y, run_naive(inputs, direction)) < 1e-12


@pytest.mark.parametrize('B', [None, 'constant', 'token'])
@pytest.mark.parametrize('C', [None, 'constant', 'token'])
@pytest.mark.parametrize('direction', ['right', 'up'])
def test_forms_of_the_projections(B, C, direction):
    inputs = make_inputs(B=B, C=C)
    y = directional_scan(**inputs, direction=direction)
    assert naive.relative_error(y, run_naive(inputs, direction)) < 1e-12


@pytest.mark.parametrize('left_out', ['D', 'z', 'delta_bias', 'delta_softplus'])
def test_optional_arguments(left_out):
    inputs = make_inputs()
    del inputs[left_out]
    if left_out == 'delta_softplus':
        inputs['delta'] = inputs['delta'].abs()
    y = directional_scan(**inputs, direction='left')
    assert naive.relative_error(y, run_naive(inputs, 'left')) < 1e-12


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize(('B', 'C'), [('token', None), (None, 'token'), ('constant', 'constant')])
def test_gradcheck(direction, B, C):
    inputs = make_inputs((2, 2, 3, 2), 2, B=B, C=C)
    names = [k for k, v in inputs.items() if isinstance(v, torch.Tensor)]
    tensors = tuple(inputs[k].requires_grad_() for k in names)

    def run(*values):
        named = dict(zip(names, values, strict=True))
        return directional_scan(**named, delta_softplus=True, direction=direction)

    assert torch.autograd.gradcheck(run, tensors)


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('direction', ['left', 'down'])
def test_precision_of_output_and_gradients(dtype, direction):
    inputs = make_inputs((2, 9, 7, 5), 4, dtype=dtype)
    tensors = {k: v for k, v in inputs.items() if isinstance(v, torch.Tensor)}
    results = []
    for function, kind in ((directional_scan, None), (directional_scan_reference, torch.float64)):
        leaves = {k: v.to(kind or v.dtype).detach().requires_grad_() for k, v in tensors.items()}
        y = function(**leaves, delta_softplus=True, direction=direction)
        y.float().sin().sum().backward()
        results.append({'y': y, **{k: v.grad for k, v in leaves.items()}})
    for name, truth in results[1].items():
        error = naive.relative_error(results[0][name], truth)
        assert error < 4 * TOLERANCE[dtype], (name, error)
    assert results[0]['y'].dtype == dtype


def test_half_precision_state_does_not_overflow():
    # The state grows to about 4e5, past what float16 holds; the skip takes the output back.
    length = 400
    x = torch.full((1, 1, length, 1), 1000.0, dtype=torch.float16)
    delta = torch.ones_like(x)
    A = torch.full((1, 1), -1e-6)
    C = torch.full((1, 1), 1e-3)
    y = directional_scan(x, delta, A, C=C)
    assert torch.isfinite(y).all()
    assert naive.relative_error(y, naive.scan(x, delta, A, C=C)) < 2e-3


@pytest.mark.parametrize('level', [-60.0, 60.0])
def test_tiny_and_large_time_steps(level):
    inputs = make_inputs(dtype=torch.float32)
    inputs['delta'] = inputs['delta'] + level
    y = directional_scan(**inputs)
    assert naive.relative_error(y, run_naive(inputs, 'right')) < 1e-5


def test_nan_reaches_only_what_comes_after_it_in_its_lane():
    inputs = make_inputs((1, 3, 5, 2), B='constant', C='constant')
    inputs['delta'][0, 1, 2, 0] = float('nan')
    y = directional_scan(**inputs, direction='right')
    expected = torch.zeros(y.shape, dtype=torch.bool)
    expected[0, 1, 2:, 0] = True
    assert torch.equal(y.isnan(), expected)


def test_nan_leaves_other_gradients_alone():
    inputs = make_inputs((1, 3, 4, 2), B='constant', C='constant')
    inputs['delta'][0, 1, 2, 0] = float('nan')
    x = inputs['x'].requires_grad_()
    directional_scan(**inputs, direction='up').sum().backward()
    expected = torch.zeros(x.shape, dtype=torch.bool)
    expected[0, 1:, 2, 0] = True  # the walk goes up: what enters at or before the NaN meets it
    assert torch.equal(x.grad.isnan(), expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_and_gate_keep_a_large_state(dtype):
    # About 1e5 inside, which a gate near 1e-3 brings back into float16's range.
    x = torch.full((1, 1, 200, 1), 500.0, dtype=dtype)
    z = torch.full_like(x, -9.0)
    with torch.autocast('cpu', dtype):
        y = directional_scan(x, torch.ones_like(x), torch.full((1, 1), -1e-6), z=z)
    truth = naive.scan(x, torch.ones_like(x), torch.full((1, 1), -1e-6), z=z)
    assert naive.relative_error(y, truth) < TOLERANCE[dtype]


@pytest.mark.parametrize('axis', range(4))
@pytest.mark.parametrize('size', [0, 1])
@pytest.mark.parametrize('direction', ['right', 'up'])
def test_smallest_sizes(axis, size, direction):
    shape = [2, 3, 4, 5]
    shape[axis] = size
    inputs = make_inputs(tuple(shape))
    leaves = {k: v.requires_grad_() for k, v in inputs.items() if isinstance(v, torch.Tensor)}
    y = directional_scan(**inputs, direction=direction)
    y.sum().backward()
    assert y.shape == torch.Size(shape)
    assert all(leaf.grad.shape == leaf.shape for leaf in leaves.values())
    if size:
        assert naive.relative_error(y, run_naive(inputs, direction)) < 1e-12


@pytest.mark.parametrize('shape', [(1, 0, 3, 2), (1, 3, 0, 2), (0, 2, 2, 2), (1, 2, 2, 0)])
@pytest.mark.parametrize('direction', ['right', 'down'])
def test_empty_map_without_options(shape, direction):
    x = torch.zeros(shape, requires_grad=True)
    y = directional_scan(x, torch.zeros(shape), torch.ones(shape[-1], 2), direction=direction)
    y.sum().backward()
    assert y.shape == x.grad.shape == torch.Size(shape)


def test_long_sequence():
    inputs = make_inputs((1, 1, 3000, 2), 1)
    y = directional_scan(**inputs)
    assert naive.relative_error(y, run_naive(inputs, 'right')) < 1e-12


def test_any_strides():
    inputs = make_inputs()
    chunked = torch.cat((inputs['x'], inputs['z']), -1).chunk(2, -1)
    turned = inputs['delta'].transpose(1, 2).contiguous().transpose(1, 2)
    y = directional_scan(**{**inputs, 'x': chunked[0], 'z': chunked[1], 'delta': turned})
    assert y.is_contiguous()
    # The CPU's vector and scalar exponentials differ in the last bit.
    assert naive.relative_error(y, directional_scan(**inputs)) < 1e-14


@pytest.mark.parametrize('order', itertools.permutations(range(4)))
@pytest.mark.parametrize('direction', ['right', 'up'])
def test_output_and_gradients_are_contiguous(order, direction):
    # A compiler relies on it: the operators' fakes say so.
    inputs = make_inputs()
    there = torch.argsort(torch.tensor(order)).tolist()
    for name in ('x', 'delta', 'z', 'B', 'C'):
        inputs[name] = inputs[name].permute(order).contiguous().permute(there)
    y = directional_scan(**inputs, direction=direction)
    assert y.is_contiguous()
    assert naive.relative_error(y, directional_scan(**make_inputs(), direction=direction)) < 1e-14
    gradients = torch.ops.mmv2m.directional_scan_backward(
        torch.ones_like(y), *inputs.values(), direction, 'reference'
    )
    assert all(gradient.is_contiguous() for gradient in gradients)


def test_two_runs_agree_to_the_bit():
    gradients = []
    for _ in range(2):
        inputs = make_inputs(dtype=torch.float32)
        leaves = [v.requires_grad_() for v in inputs.values() if isinstance(v, torch.Tensor)]
        directional_scan(**inputs).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_autocast_does_not_round_the_states():
    inputs = make_inputs(dtype=torch.float32)
    expected = directional_scan(**inputs)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(directional_scan(**inputs), expected)
