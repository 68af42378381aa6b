"""The CUDA C++ kernels against the float64 reference; emulated where there is no GPU."""

import dataclasses
import importlib.util

import naive
import pytest
import torch
import torch.nn.functional as F
from cuda_emulation import DEVICE, needs_a_device
from scan_inputs import directions_of

from mmv2m.ops import directional_conv
from mmv2m.ops.reference import directional_conv_reference
from mmv2m.ops.runtime.compile import compile_kernel

pytest.importorskip('triton')
from cuda_scans import (  # noqa: E402
    TOLERANCE,
    cut_into_segments,
    make_problem,
)

from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.cuda.conv import convs_backward, convs_forward  # noqa: E402
from mmv2m.ops.cuda.projected_gradient import adds_projected_gradient  # noqa: E402
from mmv2m.ops.cuda.scan_backward import BackwardScan  # noqa: E402
from mmv2m.ops.cuda.scan_forward import scans_forward  # noqa: E402
from mmv2m.ops.cuda.sums import PARTS, sum_rows  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.gpu.operators import Operators  # noqa: E402
from mmv2m.ops.gpu.projections import COLUMNS, ProjectedGradient  # noqa: E402
from mmv2m.ops.runtime.launch import launch  # noqa: E402

CORNERS = ['right', 'left', 'down', 'up']


def run(scan):
    for call in scan.calls():
        launch(call, torch.device(DEVICE))
    gradients = dict(scan.gradients)
    names = [name for name in gradients if name not in ('x', 'delta')]
    summed = sum_rows([gradients[name] for name in names])
    gradients.update(zip(names, summed, strict=True))
    return dict(gradients, y=scans_forward(scan.inputs, scan.sums))


def make_scan(shape, states, directions, sums=False, dtype=torch.float32, most_steps=None, **kinds):
    """The backward pass, and output and gradients of the reference."""
    inputs, grad_y, truth = make_problem(shape, states, directions, sums, dtype, **kinds)
    scan = BackwardScan(grad_y, inputs, sums, multiprocessors=1)
    if most_steps is not None:
        scan.cut(most_steps)
    return scan, truth


def compare(scan, truth, dtype=torch.float32):
    results = run(scan)
    for name, expected in truth.items():
        assert naive.relative_error(results[name].cpu(), expected) < TOLERANCE[dtype], name


@needs_a_device
@pytest.mark.parametrize('shape', [(2, 3, 4, 40), (1, 1, 1, 3), (1, 5, 2, 128)])
@pytest.mark.parametrize(('B', 'C', 'sums'), [('token', None, False), (None, 'token', True)])
def test_four_corners(shape, B, C, sums):
    compare(*make_scan(shape, 16, CORNERS, sums, B=B, C=C))


@needs_a_device
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('states', [3, 16])
def test_gate_of_a_sum(states, dtype):
    inputs, _, truth = make_problem((2, 3, 7, 37), states, CORNERS, True, dtype, gated=True)
    y = scans_forward(inputs, sums=True)
    assert naive.relative_error(y.cpu(), truth['y']) < TOLERANCE[dtype]


@needs_a_device
@pytest.mark.parametrize('states', [1, 2, 3, 4, 8, 16, 32])
def test_states_and_chunks(states):
    """Eleven steps, cut into chunks of four: whole pairs, and a chunk with a single step."""
    compare(*make_scan((1, 2, 11, 6), states, ['left'], most_steps=4))


@needs_a_device
@pytest.mark.parametrize('direction', ['right', 'left'])
def test_segments_of_long_lanes(direction, monkeypatch):
    """Nineteen steps in segments of seven, seven and five, and those in chunks of four."""
    cut_into_segments(monkeypatch, 6)
    scan, truth = make_scan((2, 1, 19, 6), 3, [direction], most_steps=4)
    assert scan.edges.number == 3
    compare(scan, truth)


@needs_a_device
@pytest.mark.parametrize('states', [3, 16])
def test_logarithm_of_A(states):
    scan, truth = make_scan((1, 2, 5, 6), states, ['right', 'up'], B='token', C=None)
    A = scan.inputs.A.cpu().double()
    scan.inputs.A, scan.inputs.log_A = (-scan.inputs.A).log(), True
    truth['A'] = truth['A'] * A
    compare(scan, truth)


@needs_a_device
@pytest.mark.parametrize('dtype', TOLERANCE)
def test_dtypes(dtype):
    compare(*make_scan((1, 2, 7, 36), 16, ['right', 'up'], dtype=dtype, B='token', C=None), dtype)


@needs_a_device
@pytest.mark.parametrize('shape', [(3, 7, 1, 6), (2, 17, 3, 34), (1, 3, 19, 8)])
@pytest.mark.parametrize(('B', 'C', 'sums'), [('token', None, False), ('token', 'token', True)])
def test_lanes_of_any_lengths(shape, B, C, sums):
    """Of one step, of other numbers in other directions, of no whole number of pairs."""
    compare(*make_scan(shape, 3, CORNERS, sums, B=B, C=C, most_steps=6))


@needs_a_device
@pytest.mark.parametrize('length', [32, 33])
def test_sums_over_lanes_kept_in_shared_memory_or_not(length):
    compare(*make_scan((1, 2, length, 5), 4, ['up', 'right', 'left'], sums=True))


@needs_a_device
@pytest.mark.parametrize('states', [1, 3, 16, 32])
def test_projections_of_half_precision(states):
    """Three of them are too few bytes for the hardware to copy at once."""
    dtype = torch.bfloat16
    compare(*make_scan((1, 3, 9, 24), states, ['left', 'down'], True, dtype), dtype)


@needs_a_device
def test_projections_between_others():
    """B is part of a wider projection, at an address that allows for copies of eight bytes."""
    scan, truth = make_scan((1, 3, 10, 32), 4, ['right', 'up'], B='token', C=None)
    B = scan.inputs.B
    wide = torch.full((*B.shape[:-1], 10), torch.nan, device=DEVICE)
    wide[..., 2:6] = B
    scan.inputs = dataclasses.replace(scan.inputs, B=wide[..., 2:6])
    assert dict(scan.call().definitions)['SIDE_BYTES'] == 8
    compare(scan, truth)


@needs_a_device
def test_runs_agree_to_the_bit():
    scan, _ = make_scan((2, 5, 9, 40), 16, CORNERS, sums=True, B=None)
    first, second = run(scan), run(scan)
    assert all(torch.equal(first[n], second[n]) for n in first if first[n] is not None)


@needs_a_device
@pytest.mark.parametrize('channels', [5, 36])
def test_output_gradients_of_more_precision(channels):
    """Those that come through a gate are in float32, whatever the maps are in."""
    scan, truth = make_scan((1, 2, 7, channels), 16, ['left'], dtype=torch.bfloat16)
    scan.grad_y = scan.grad_y.float()
    compare(scan, truth, torch.bfloat16)


@needs_a_device
def test_maps_at_odd_addresses():
    scan, truth = make_scan((1, 2, 5, 32), 16, ['right'], B='token', C=None)
    storage = torch.empty(scan.x.numel() + 1, device=DEVICE)
    scan.x = scan.inputs.x = storage[1:].copy_(scan.x.flatten()).view_as(scan.x)
    assert not dict(scan.call().definitions)['VECTORS']
    compare(scan, truth)


@needs_a_device
@pytest.mark.parametrize(
    ('channels', 'gated', 'maps'),
    [
        *((channels, gated, 4 * gated) for channels in (3, 96) for gated in (False, True)),
        *((40, gated, 4 * (not gated)) for gated in (False, True)),
    ],
)
def test_conv(channels, gated, maps):
    compare_conv((2, 3, 9), channels, gated, maps, CORNERS)


@needs_a_device
@pytest.mark.parametrize('grid', [(1, 1, 1), (1, 17, 2)])
@pytest.mark.parametrize('taps', [1, 3])
def test_conv_sizes(grid, taps):
    compare_conv(grid, 8, True, 3, ['up', 'right', 'down'], taps=taps)


@needs_a_device
@pytest.mark.parametrize('dtype', TOLERANCE)
def test_conv_dtypes(dtype):
    compare_conv((1, 4, 6), 16, True, 0, ['left', 'right', 'down'], dtype)


@needs_a_device
@pytest.mark.parametrize('grid', [(2, 1, 2), (1, 5, 14), (1, 17, 15)])
@pytest.mark.parametrize(('gated', 'maps'), [(False, 0), (True, 4)])
def test_conv_both_ways_at_once(grid, gated, maps):
    """Lanes shorter than the taps, of whole stretches and of others."""
    compare_conv(grid, 37, gated, maps, CORNERS, bias=False)


@needs_a_device
@pytest.mark.parametrize('directions', [['left'] * 2 + ['right'], ['down', 'right'] * 2])
@pytest.mark.parametrize(('gated', 'maps'), [(True, 0), (True, 1), (False, 1)])
def test_conv_directions_that_come_twice(directions, gated, maps):
    compare_conv((1, 3, 7), 70, gated, maps * len(directions), directions)


@needs_a_device
@pytest.mark.parametrize(
    ('grid', 'channels', 'gated', 'maps', 'directions', 'width', 'dtype'),
    [
        ((2, 9, 3), 64, False, 0, ['right', 'left'], 7, torch.bfloat16),
        ((1, 3, 14), 136, False, 2, ['down', 'up'], 25, torch.float16),
        ((1, 8, 2), 37, True, 4, CORNERS, 33, torch.bfloat16),
        ((1, 8, 2), 37, True, 4, CORNERS, 33, torch.float16),
        ((1, 2, 5), 32, False, 1, ['up'], 49, torch.bfloat16),
        ((1, 2, 5), 128, True, 0, ['left'], 16, torch.float16),
    ],
)
def test_conv_that_adds_the_gradient_from_a_projection(
    grid, channels, gated, maps, directions, width, dtype
):
    compare_conv(grid, channels, gated, maps, directions, dtype, width=width)


@needs_a_device
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('separate', [False, True])
@pytest.mark.parametrize(
    ('grid', 'channels', 'directions', 'bias'),
    [
        ((2, 3, 5), 37, CORNERS, True),
        ((1, 1, 7), 64, ['up'], False),
        ((1, 4, 1), 8, ['left', 'down', 'left'], True),
        ((0, 2, 3), 8, CORNERS, True),
        ((1, 2, 0), 8, ['right', 'up'], True),
    ],
)
def test_convs_as_an_operator(grid, channels, directions, bias, separate, dtype):
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    maps = normal(len(directions), *grid, channels).to(dtype)
    tensors = [maps if separate else maps[0], normal(channels, 4), normal(channels)]
    tensors = tensors[: 2 + bias]
    grad_y = normal(*maps.shape).to(dtype)
    given = [t.to(DEVICE) for t in tensors] + [None] * (not bias) + [','.join(directions)]
    operators = Operators(Kernels(cuda, triton))
    found = [
        operators.convs_forward(*given),
        *operators.convs_backward(grad_y.to(DEVICE), *given)[: len(tensors)],
    ]

    leaves = [t.double().requires_grad_() for t in tensors]
    truth = directional_conv(*leaves, direction=directions, backend='reference')
    truth.backward(grad_y.double())
    expected = [truth, *(leaf.grad for leaf in leaves)]
    for one, true, like in zip(found, expected, [maps, *tensors], strict=True):
        assert one.dtype == like.dtype and one.shape == true.shape
        assert naive.relative_error(one.cpu(), true) < TOLERANCE[dtype]


def compare_conv(
    grid, channels, gated, maps, directions, dtype=torch.float32, taps=4, bias=True, width=0
):
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    both = normal(*grid, 2 * channels).to(dtype)
    x, gate = both.chunk(2, -1)
    x = normal(maps, *grid, channels).to(dtype) if maps else x
    tensors = [x, gate if gated else None, normal(channels, taps) / 2]
    tensors.append(normal(channels) if bias else None)
    given = [None if t is None else t.to(DEVICE) for t in tensors]
    grad_y = normal(len(directions), *grid, channels).to(dtype)
    projected = None
    ways = directions_of(*directions)
    if width:
        assert adds_projected_gradient(x, torch.empty(width, channels))
        projected = ProjectedGradient(
            normal(grad_y[..., 0].numel(), width).to(dtype), normal(width, channels)
        )
    y = convs_forward(*given, ways)
    *of_maps, of_weight, of_bias = convs_backward(
        *(grad_y.to(DEVICE), *given, ways), projected=padded(projected)
    )
    gradients = [*of_maps, *sum_rows([of_weight, of_bias])]
    assert [g is None for g in gradients] == [t is None for t in tensors]

    leaves = [None if t is None else t.double().requires_grad_() for t in tensors]
    x, gate, weight, bias = leaves
    opened = torch.ones_like(both[..., :channels]) if gate is None else F.silu(gate)
    truth = torch.stack(
        [
            directional_conv_reference((x[k] if maps else x) * opened, weight, bias, direction)
            for k, direction in enumerate(directions)
        ]
    )
    grad_y = grad_y.double()
    if projected is not None:
        weight = projected.weight.to(dtype).double()
        grad_y += (projected.grad.double() @ weight).view_as(grad_y)
    truth.backward(grad_y)
    assert naive.relative_error(y.cpu(), truth) < TOLERANCE[dtype]
    for leaf, gradient in zip(leaves, gradients, strict=True):
        if leaf is not None:
            assert naive.relative_error(gradient.cpu(), leaf.grad) < TOLERANCE[dtype]


def padded(projected):
    """As :class:`ProjectedGradient` has it, on the device."""
    if projected is None:
        return None
    grad = F.pad(projected.grad, (0, -projected.grad.shape[1] % COLUMNS))
    return ProjectedGradient(grad.to(DEVICE), projected.weight.to(DEVICE))


@pytest.mark.skipif(
    importlib.util.find_spec('cuda') is None, reason='cuda-bindings is not installed'
)
@pytest.mark.parametrize('architecture', ['sm_80', 'sm_90'])
@pytest.mark.parametrize('B', ['token', None])
def test_compiles_for(architecture, B, tmp_path, monkeypatch):
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(tmp_path))
    scan, _ = make_scan((1, 2, 3, 384), 16, CORNERS, dtype=torch.bfloat16, B=B, C=None)
    definitions = scan.call().definitions
    cubin = compile_kernel('scan_backward.cu', definitions, architecture)
    assert cubin[:4] == b'\x7fELF'
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [cubin]
    assert compile_kernel('scan_backward.cu', definitions, architecture) == cubin


def test_the_compilers_words_are_passed_on(tmp_path, monkeypatch):
    pytest.importorskip('cuda.bindings')
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(tmp_path))
    with pytest.raises(RuntimeError, match=r'scan_backward.cu does not compile(.|\n)*NUMBER'):
        compile_kernel('scan_backward.cu', (('STATES', 16),), 'sm_90')


@needs_a_device
def test_sums_of_rows():
    """More matrices than a launch serves, among them none, an empty one and one without rows."""
    shapes = [(1, 1), (3, 40, 2), (70, 33), (700, 21), (5, 0), (0, 4), *[(2, 3)] * PARTS]
    partial = [None, *(torch.randn(shape, device=DEVICE) for shape in shapes)]
    first, *sums = sum_rows(partial)
    assert first is None
    for rows, total in zip(partial[1:], sums, strict=True):
        torch.testing.assert_close(total, rows.double().sum(0).float())
