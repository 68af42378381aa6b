"""Scans and convolutions of the kernels against the float64 reference.

Triton's are interpreted without a GPU.
"""

import naive
import pytest
import torch
from kernel_comparison import CORNERS, DEVICE, TOLERANCE, compare
from scan_inputs import make_inputs

from mmv2m.ops import DIRECTIONS, directional_conv, directional_scan

pytest.importorskip('triton')


def compare_scan(inputs, direction, dtype=torch.float32):
    softplus = inputs.pop('delta_softplus', False)
    compare(
        directional_scan, inputs, TOLERANCE[dtype], delta_softplus=softplus, direction=direction
    )


@pytest.mark.parametrize(
    ('shape', 'direction'),
    [
        *(((2, 3, 5, 4), direction) for direction in DIRECTIONS),
        ((1, 1, 1, 3), 'left'),
        *(((1, 2, 19, 1), direction) for direction in ('right', 'left', 'up')),
        *(((1, 19, 2, 33), direction) for direction in ('right', 'down', 'up')),
    ],
)
def test_scan_directions_and_shapes(shape, direction):
    compare_scan(make_inputs(shape, 2, torch.float32), direction)


@pytest.mark.parametrize('states', [1, 2, 3, 4, 8, 16, 32])
def test_scan_states(states):
    compare_scan(make_inputs((1, 3, 11, 5), states, torch.float32), 'left')


@pytest.mark.parametrize('B', [None, 'constant', 'token'])
@pytest.mark.parametrize('C', [None, 'constant', 'token'])
def test_scan_forms_of_the_projections(B, C):
    compare_scan(make_inputs((1, 3, 4, 5), 3, torch.float32, B, C), 'down')


@pytest.mark.parametrize('left_out', ['D', 'z', 'delta_bias', 'delta_softplus'])
def test_scan_optional_arguments(left_out):
    inputs = make_inputs((1, 3, 4, 5), 3, torch.float32)
    del inputs[left_out]
    if left_out == 'delta_softplus':
        del inputs['delta_bias']
        inputs['delta'] = inputs['delta'].abs()
    compare_scan(inputs, 'up')


@pytest.mark.parametrize(
    ('dtype', 'direction'), [*((dtype, 'left') for dtype in TOLERANCE), (torch.bfloat16, 'down')]
)
def test_scan_dtypes(dtype, direction):
    compare_scan(make_inputs((1, 6, 7, 5), 16, dtype), direction, dtype)


@pytest.mark.parametrize('level', [-20.0, 20.0])
def test_scan_tiny_and_large_time_steps(level):
    inputs = make_inputs((1, 2, 5, 3), 2, torch.float32)
    inputs['delta'] = inputs['delta'] + level
    compare_scan(inputs, 'right')


def test_scan_with_many_chunks():
    compare_scan(make_inputs((1, 1, 35, 3), 8, torch.float32), 'right')


@pytest.mark.parametrize(
    ('B', 'C', 'direction'),
    [
        ('token', 'token', 'right'),
        ('token', 'token', 'left'),
        ('constant', None, 'right'),
        (None, 'token', 'left'),
    ],
)
def test_scan_of_long_lanes_in_segments(B, C, direction, monkeypatch):
    monkeypatch.setattr('mmv2m.ops.triton.segments.LEAST_STEPS', 5)
    monkeypatch.setattr('mmv2m.ops.triton.scan_backward.MOST_STEPS', 3)
    compare_scan(make_inputs((2, 1, 19, 5), 3, torch.float32, B, C), direction)


def test_half_precision_state_does_not_overflow():
    x = torch.full((1, 1, 400, 1), 1000.0, dtype=torch.float16, device=DEVICE)
    A, C = (torch.full((1, 1), value, device=DEVICE) for value in (-1e-6, 1e-3))
    y = directional_scan(x, torch.ones_like(x), A, C=C, backend='triton')
    truth = directional_scan(*(v.double() for v in (x, torch.ones_like(x), A)), C=C.double())
    assert naive.relative_error(y, truth) < 2e-3


@pytest.mark.parametrize('shape', [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)])
@pytest.mark.parametrize('direction', ['left', 'down'])
def test_empty_maps(shape, direction):
    inputs = make_inputs(shape, 2, torch.float32)
    leaves = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items() if torch.is_tensor(v)}
    y = directional_scan(**leaves, delta_softplus=True, direction=direction, backend='triton')
    y.sum().backward()
    assert y.shape == torch.Size(shape)
    assert all(torch.equal(leaf.grad, torch.zeros_like(leaf)) for leaf in leaves.values())


@pytest.mark.parametrize('taps', [1, 2, 4])
@pytest.mark.parametrize('direction', DIRECTIONS)
def test_conv(taps, direction):
    x = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    tensors = dict(x=x, weight=x[0, 0, :taps].T.contiguous(), bias=x[0, 0, 5] if taps > 1 else None)
    compare(directional_conv, tensors, TOLERANCE[torch.float32], direction=direction)


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('separate', [False, True])
@pytest.mark.parametrize(
    ('directions', 'taps', 'bias'),
    [(CORNERS, 4, True), (['up'], 3, False), (['left', 'down', 'left'], 1, True)],
)
def test_convs(directions, separate, taps, bias, dtype):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(len(directions), 2, 3, 5, 7, generator=generator).to(dtype)
    weight, shift = torch.randn(7, taps, generator=generator), torch.arange(7.0) / 7
    tensors = dict(x=maps if separate else maps[0], weight=weight, bias=shift if bias else None)
    compare(directional_conv, tensors, TOLERANCE[dtype], direction=directions)


@pytest.mark.parametrize('shape', [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)])
@pytest.mark.parametrize('separate', [False, True])
def test_convs_of_empty_maps(shape, separate):
    x = torch.ones((4, *shape) if separate else shape, device=DEVICE)
    parameters = (torch.ones(shape[-1], 4, device=DEVICE), torch.ones(shape[-1], device=DEVICE))
    leaves = [t.requires_grad_() for t in (x, *parameters)]
    y = directional_conv(*leaves, CORNERS, 'triton')
    y.sum().backward()
    assert y.shape == torch.Size((4, *shape))
    assert all(torch.equal(leaf.grad, torch.zeros_like(leaf)) for leaf in leaves)
