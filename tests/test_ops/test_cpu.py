"""The CPU's kernels in C++ against the float64 reference."""

import naive
import pytest
import torch
import torch.nn.functional as F
from cpu_kernels import needs_cpu_kernels
from kernel_comparison import CORNERS, compare_backend
from operator_calls import cases, outputs
from scan_inputs import make_inputs, make_ssm_inputs

from mmv2m.ops import (
    Halves,
    corner_ssm,
    directional_conv,
    directional_scan,
    directional_ssm,
)
from mmv2m.ops.cpu import build, ssm

pytestmark = needs_cpu_kernels
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
SHAPES = [(2, 3, 5, 4), (1, 1, 7, 32), (2, 4, 1, 33), (1, 2, 2, 70)]


def compare(function, tensors, tolerance, **options):
    compare_backend(function, tensors, tolerance, 'cpu', **options)


def tensors_of(inputs):
    return {name: v for name, v in inputs.items() if not isinstance(v, bool)}


@pytest.mark.parametrize('direction', CORNERS)
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('states', [1, 16])
def test_scan(direction, shape, states):
    inputs = tensors_of(make_inputs(shape, states, torch.float32))
    compare(directional_scan, inputs, 1e-5, delta_softplus=True, direction=direction)


@pytest.mark.parametrize('direction', CORNERS)
def test_scan_in_bfloat16(direction):
    inputs = tensors_of(make_inputs((2, 3, 5, 37), 3, torch.bfloat16))
    compare(directional_scan, inputs, 1e-2, delta_softplus=True, direction=direction)


@pytest.mark.parametrize('B', [None, 'constant', 'token'])
@pytest.mark.parametrize('C', [None, 'constant', 'token'])
@pytest.mark.parametrize('direction', ['right', 'up'])
def test_forms_of_the_projections(B, C, direction):
    inputs = tensors_of(make_inputs((2, 3, 4, 11), 3, torch.float32, B, C))
    compare(directional_scan, inputs, 1e-5, delta_softplus=True, direction=direction)


@pytest.mark.parametrize('left_out', ['D', 'z', 'delta_bias', 'delta_softplus'])
def test_optional_arguments(left_out):
    inputs = tensors_of(make_inputs((2, 3, 4, 11), 3, torch.float32))
    if left_out in inputs:
        inputs[left_out] = None
    else:
        inputs['delta'] = inputs['delta'].abs()
    softplus = left_out != 'delta_softplus'
    compare(directional_scan, inputs, 1e-5, delta_softplus=softplus, direction='left')


@pytest.mark.parametrize('direction', CORNERS)
@pytest.mark.parametrize('states', [3, 16])
def test_long_lanes(direction, states):
    shape = (1, 1, 400, 5) if direction in ('right', 'left') else (1, 400, 1, 5)
    inputs = tensors_of(make_inputs(shape, states, torch.float32))
    compare(directional_scan, inputs, 1e-5, delta_softplus=True, direction=direction)


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('direction', CORNERS)
@pytest.mark.parametrize(
    ('shape', 'taps'), [((2, 3, 5, 37), 4), ((1, 1, 2, 3), 5), ((1, 4, 1, 8), 1)]
)
def test_conv(dtype, direction, shape, taps):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *size: torch.randn(size, generator=generator)  # noqa: E731
    x, weight, bias = draw(*shape).to(dtype), draw(shape[-1], taps), draw(shape[-1])
    for b in (bias, None):
        tensors = dict(x=x, weight=weight, bias=b)
        compare(directional_conv, tensors, TOLERANCE[dtype], direction=direction)


@pytest.mark.parametrize(('together', 'conv'), [(1, True), (2**18, True), (2**18, False)])
@pytest.mark.parametrize('projects', ['input', 'output', 'both'])
@pytest.mark.parametrize(('maps', 'reduction'), [(0, 'sum'), (3, 'none')])
def test_ssm(together, projects, maps, reduction, conv, monkeypatch):
    monkeypatch.setattr(ssm, 'TOGETHER', together)
    inputs = make_ssm_inputs(channels=37, projects=projects, maps=maps, conv=conv)
    options = dict(directions=CORNERS[1:], projects=projects, reduction=reduction)
    compare(directional_ssm, inputs, 1e-5, **options)


def test_ssm_in_bfloat16():
    inputs = make_ssm_inputs(channels=40, dtype=torch.bfloat16)
    compare(directional_ssm, inputs, 2e-2, directions=CORNERS, reduction='sum')


@pytest.mark.parametrize('log_A', [False, True])
@pytest.mark.parametrize('states', [1, 4])
@pytest.mark.parametrize('together', [1, 2**18])
def test_corner_ssm_of_two_groups(log_A, states, together, monkeypatch):
    monkeypatch.setattr(ssm, 'TOGETHER', together)
    kinds = [make_ssm_inputs(channels=21, states=states, projects=p) for p in ('input', 'output')]
    tensors = dict(x=kinds[0]['x'], gate=kinds[0]['gate'])
    for group in range(2):
        for kind, inputs in enumerate(kinds):
            new = {f'{name}{group}{kind}': t * (1 - group / 4) for name, t in inputs.items()}
            tensors |= dict(list(new.items())[2:])

    def run(x, gate, backend, **parameters):
        values = list(parameters.values())
        groups = [
            Halves(values[:7], values[7:14], ('right', 'left', 'down'), ('down', 'up', 'left')),
            Halves(values[14:21], values[21:], ('up',), ('right',)),
        ]
        return corner_ssm(x, gate, groups, backend=backend, log_A=log_A)

    compare(run, tensors, 1e-5)


@pytest.mark.parametrize(('name', 'call', 'tensors'), cases(torch.float32))
def test_every_operator(name, call, tensors):
    results = []
    for backend, dtype in (('cpu', torch.float32), ('reference', torch.float64)):
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in tensors]
        y = outputs(call, leaves, backend)
        torch.autograd.backward(y, [t.cos() for t in y])
        results.append([*y, *(leaf.grad for leaf in leaves)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-5)


def test_strides():
    inputs = make_inputs((2, 3, 5, 40), dtype=torch.float32)
    expected = directional_scan(**inputs, backend='cpu')
    for order in ((0, 2, 1, 3), (3, 2, 1, 0)):
        there = torch.argsort(torch.tensor(order)).tolist()
        other = {
            name: t.permute(order).contiguous().permute(there) if getattr(t, 'ndim', 0) == 4 else t
            for name, t in inputs.items()
        }
        assert torch.equal(directional_scan(**other, backend='cpu'), expected)


@pytest.mark.parametrize('axis', range(4))
@pytest.mark.parametrize('size', [0, 1])
def test_smallest_sizes(axis, size):
    shape = [2, 3, 4, 5]
    shape[axis] = size
    inputs = tensors_of(make_inputs(tuple(shape), dtype=torch.float32))
    leaves = {name: t.requires_grad_() for name, t in inputs.items()}
    y = directional_scan(**leaves, delta_softplus=True, backend='cpu')
    y.sum().backward()
    assert y.shape == torch.Size(shape)
    assert all(leaf.grad.shape == leaf.shape for leaf in leaves.values())


@pytest.mark.parametrize('direction', ['right', 'up'])
def test_nan_reaches_only_what_comes_after_it_in_its_lane(direction):
    inputs = make_inputs((1, 3, 5, 2), B='constant', C='constant', dtype=torch.float32)
    inputs['delta'][0, 1, 2, 0] = float('nan')
    x = inputs['x'].requires_grad_()
    y = directional_scan(**inputs, direction=direction, backend='cpu')
    expected = torch.zeros(y.shape, dtype=torch.bool)
    after, before = (
        ((0, 1, slice(2, None), 0), (0, 1, slice(0, 3), 0))
        if direction == 'right'
        else ((0, slice(0, 2), 2, 0), (0, slice(1, None), 2, 0))
    )
    expected[after] = True
    assert torch.equal(y.isnan(), expected)
    y.sum().backward()
    expected = torch.zeros(y.shape, dtype=torch.bool)
    expected[before] = True
    assert torch.equal(x.grad.isnan(), expected)


@pytest.mark.parametrize('level', [-60.0, 60.0])
def test_tiny_and_large_time_steps(level):
    inputs = make_inputs(dtype=torch.float32)
    inputs['delta'] = inputs['delta'] + level
    y, truth = (
        directional_scan(*(t if isinstance(t, bool) else t.to(d) for t in inputs.values()))
        for d in (torch.float32, torch.float64)
    )
    assert naive.relative_error(y, truth) < 1e-5


def test_a_growing_state_overflows_to_infinity():
    ones = torch.ones(1, 1, 300, 1)
    y = directional_scan(ones, ones, torch.ones(1, 1), backend='cpu')
    assert y[0, 0, -1, 0] == torch.inf and not y.isnan().any()


def test_short_steps_do_not_gather_an_error():
    # float32's own rounding of each decay makes 6e-4; one that is above 1 by 1e-7 would make 2e-3.
    ones, A = torch.ones(1, 1, 20000, 1), torch.full((1, 1), -1e-6)
    y, truth = (directional_scan(ones.to(d), ones.to(d), A) for d in (torch.float32, torch.float64))
    assert (y / truth - 1).abs().max() < 1e-3


@pytest.mark.parametrize('sums', [False, True])
@pytest.mark.parametrize('channels', [37, 192])
def test_the_number_of_threads_makes_no_difference_to_outputs(sums, channels):
    """Threads share out channels if these are even, else lanes."""
    shape, generator = (4, 1, 5, 7), torch.Generator().manual_seed(0)
    x, delta, z = torch.randn(3, *shape, channels, generator=generator)
    A_log, B = torch.rand(channels, 3), torch.rand(*shape, 3)
    weight, before, outputs = torch.rand(channels, 4), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            maps = build.kernels().conv_forward(x[0], None, weight, None, [0, 1, 2, 3])
            y = torch.empty_like(x[0] if sums else x)
            scanned = maps, delta, A_log, B, None, None, z[0] if sums else z, None, True, True
            build.kernels().scan_forward(*scanned, [0, 1, 2, 3], y, False)
            outputs.append(y)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(y, outputs[0]) for y in outputs)
    names, A = ('right', 'left', 'down', 'up'), -A_log.exp()
    ones = [
        directional_scan(maps[i], delta[i], A, B[i], delta_softplus=True, direction=name)
        for i, name in enumerate(names)
    ]
    expected = sum(ones) * F.silu(z[0]) if sums else torch.stack(ones) * F.silu(z)
    torch.testing.assert_close(outputs[0], expected, rtol=1e-4, atol=1e-5)


def test_two_runs_agree_to_the_bit():
    gradients = []
    for _ in range(2):
        inputs = make_ssm_inputs((3, 5, 7), 70, states=4)
        leaves = {name: t.clone().requires_grad_() for name, t in inputs.items()}
        y = directional_ssm(**leaves, directions=CORNERS, reduction='sum', backend='cpu')
        y.square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves.values()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
