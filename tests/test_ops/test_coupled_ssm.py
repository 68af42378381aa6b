"""Convolutions, projections and scan of the exact recurrence as one operator."""

import importlib
from contextlib import nullcontext
from functools import partial

import naive
import naive_coupled
import pytest
import torch
from cpu_kernels import needs_cpu_kernels
from scan_inputs import make_coupled_ssm_inputs as make_inputs
from scan_inputs import nest_coupled_ssm
from torch.export import Dim

from mmv2m.ops import BACKENDS, CORNERS, Corner, coupled_ssm
from mmv2m.ops.operator import Operator

MODULE = importlib.import_module('mmv2m.ops.coupled_ssm')
PADDED_RANK = 'mmv2m.ops.coupled_projection.padded_rank'
ALL = tuple(CORNERS)
CPU = pytest.param('cpu', marks=needs_cpu_kernels)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float64: 1e-12}


def run(inputs, corners=ALL, reduction='none', backend='reference'):
    return coupled_ssm(*nest_coupled_ssm(*inputs.values()), corners, reduction, backend)


def results(inputs, *options, forward=nullcontext):
    """Output and every gradient by name, for a gradient of the output that is always the same."""
    leaves = {k: None if t is None else t.clone().requires_grad_() for k, t in inputs.items()}
    with forward():
        y = run(leaves, *options)
    generator = torch.Generator().manual_seed(1)
    y.backward(torch.randn(y.shape, generator=generator).to(y))
    gradients = {k: t.grad for k, t in leaves.items() if t is not None}
    return dict(y=y.detach(), **gradients)


def cast(inputs, dtype):
    return {k: None if t is None else t.to(dtype) for k, t in inputs.items()}


def compare(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, truth in expected.items():
        error = naive.relative_error(found[name], truth)
        assert error < tolerance, (name, error)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, truth in expected.items():
        assert found[name].dtype == truth.dtype and torch.equal(found[name], truth), name


def compare_with_the_reference(inputs, tolerance, corners=ALL, reduction='none', backend='cpu'):
    found = results(inputs, corners, reduction, backend)
    compare(found, results(cast(inputs, torch.float64), corners, reduction), tolerance)
    for name, value in inputs.items():
        if value is not None:
            assert found[name].dtype == value.dtype and found[name].is_contiguous(), name
    assert found['y'].dtype == inputs['x'].dtype and found['y'].is_contiguous()


# What it computes.


@pytest.mark.parametrize('grid', [(2, 3, 5), (1, 1, 7), (2, 4, 1), (1, 1, 1)])
@pytest.mark.parametrize('states', [1, 2, 5])
@pytest.mark.parametrize('conv_bias', [True, False])
def test_agrees_with_the_equations(grid, states, conv_bias):
    inputs = cast(make_inputs(grid, states=states, conv_bias=conv_bias), torch.float64)
    given = nest_coupled_ssm(*inputs.values())
    truth = torch.stack([naive_coupled.coupled_ssm(*given, corner) for corner in ALL])
    assert naive.relative_error(run(inputs), truth) < 1e-12
    assert naive.relative_error(run(inputs, reduction='sum'), truth.sum(0)) < 1e-12


@pytest.mark.parametrize('conv_bias', [True, False])
@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_gradcheck_of_the_single_operators(conv_bias, reduction):
    inputs = make_inputs((2, 2, 3), 2, 2, 2, taps=(2, 3), conv_bias=conv_bias)
    inputs = cast(inputs, torch.float64)
    names = [name for name, t in inputs.items() if t is not None]

    def of_tensors(*tensors):
        given = inputs | dict(zip(names, tensors, strict=True))
        return run(given, ('UL', 'UR'), reduction)

    leaves = tuple(inputs[name].requires_grad_() for name in names)
    assert torch.autograd.gradcheck(of_tensors, leaves)


@needs_cpu_kernels
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('shape', [(2, 3, 5, 37), (1, 1, 7, 4), (2, 4, 1, 33), (1, 1, 1, 1)])
@pytest.mark.parametrize('states', [1, 2, 16])
@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_kernels_of_the_cpu(dtype, shape, states, reduction):
    inputs = make_inputs(shape[:3], shape[3], 3, states, dtype)
    compare_with_the_reference(inputs, TOLERANCE[dtype], reduction=reduction)


@needs_cpu_kernels
@pytest.mark.parametrize('corners', [('LR',), ('UR', 'UL'), ('LL', 'LL', 'UL'), ALL[::-1]])
@pytest.mark.parametrize('reduction', ['none', 'sum'])
@pytest.mark.parametrize('conv_bias', [True, False])
def test_corners(corners, reduction, conv_bias):
    inputs = make_inputs(conv_bias=conv_bias)
    compare_with_the_reference(inputs, 1e-5, corners, reduction)
    values = [CORNERS[corner] for corner in corners]
    options = (reduction, 'cpu')
    assert torch.equal(run(inputs, values, *options), run(inputs, corners, *options))


@needs_cpu_kernels
@pytest.mark.parametrize('rank', [1, 3, 8, 11, 16])
@pytest.mark.parametrize('taps', [(1, 1), (5, 2)])
def test_ranks_and_taps(rank, taps):
    compare_with_the_reference(make_inputs(channels=12, rank=rank, taps=taps), 1e-5)


@needs_cpu_kernels
def test_only_one_convolution_has_a_bias():
    for name in ('conv_bias', 'second_conv_bias'):
        compare_with_the_reference(make_inputs() | {name: None}, 1e-5)


@needs_cpu_kernels
def test_a_corner_with_its_directions_in_the_other_order():
    compare_with_the_reference(make_inputs(), 1e-5, [Corner.of('down', 'right')])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_on_the_reference(dtype):
    inputs = make_inputs(channels=16, dtype=dtype)
    if dtype == torch.float64:
        inputs = cast(inputs, dtype)
    compare_with_the_reference(inputs, TOLERANCE[dtype], backend='reference')


@pytest.mark.parametrize('backend', ['reference', CPU])
@pytest.mark.parametrize('names', [None, ('x_proj', 'A'), ('dt_bias', 'second_dt_proj', 'conv')])
def test_parameters_in_bfloat16(backend, names):
    """All of them, or some beside others in float32."""
    inputs = make_inputs(channels=16, dtype=torch.bfloat16)
    inputs |= {name: inputs[name].bfloat16() for name in names or inputs}
    compare_with_the_reference(inputs, TOLERANCE[torch.bfloat16], backend=backend)


@pytest.mark.parametrize('backend', ['reference', CPU])
@pytest.mark.parametrize('shape', [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (2, 3, 4, 0)])
@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_maps_of_no_size(backend, shape, reduction):
    inputs = make_inputs(shape[:3], shape[3])
    found = results(inputs, ('UL', 'LL'), reduction, backend)
    assert found.pop('y').shape == ((2, *shape) if reduction == 'none' else shape)
    assert_equal(found, {name: torch.zeros_like(t) for name, t in inputs.items()})


@pytest.mark.parametrize('backend', ['reference', CPU])
@pytest.mark.parametrize('order', [(0, 2, 1, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_maps_with_any_strides(backend, order):
    inputs, back = make_inputs(), torch.argsort(torch.tensor(order)).tolist()
    turned = inputs | dict(x=inputs['x'].permute(order).contiguous().permute(back))
    assert not turned['x'].is_contiguous()
    y = run(turned, backend=backend)
    assert y.is_contiguous()
    assert naive.relative_error(y, run(inputs, backend=backend)) < 1e-6
    found, expected = (results(given, ALL, 'sum', backend) for given in (turned, inputs))
    compare(found, expected, 1e-5)


@pytest.mark.parametrize('backend', ['reference', CPU])
def test_weights_of_a_convolution_layer(backend):
    inputs = make_inputs()
    layers = {name: inputs[name].unsqueeze(1) for name in ('conv', 'second_conv')}
    found = results(inputs | layers, ALL, 'sum', backend)
    for name in layers:
        assert found[name].shape == layers[name].shape
        found[name] = found[name][:, 0]
    assert_equal(found, results(inputs, ALL, 'sum', backend))


@pytest.mark.parametrize('backend', ['reference', CPU])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('of_autocast', [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(backend, dtype, of_autocast):
    inputs = make_inputs(dtype=dtype)
    expected = results(inputs, ALL, 'sum', backend)
    autocast = partial(torch.autocast, 'cpu', of_autocast)
    assert_equal(results(inputs, ALL, 'sum', backend, forward=autocast), expected)
    if backend == 'cpu':  # PyTorch's own gradients of products follow it
        with autocast():
            assert_equal(results(inputs, ALL, 'sum', backend), expected)


@pytest.mark.parametrize('backend', ['reference', CPU])
def test_autocast_to_another_dtype_than_that_of_parameters(backend):
    inputs = cast(make_inputs(), torch.bfloat16)
    expected = results(inputs, ALL, 'sum', backend)
    autocast = partial(torch.autocast, 'cpu', torch.float16)
    assert_equal(results(inputs, ALL, 'sum', backend, forward=autocast), expected)


@pytest.mark.parametrize('backend', ['reference', CPU])
def test_two_runs_agree_to_the_bit(backend):
    inputs = make_inputs((3, 5, 7), 40)
    first, second = (results(inputs, ALL, 'sum', backend) for _ in range(2))
    assert_equal(first, second)


# Ranks are padded on a GPU only, but every device can compute with the zeros that fill them up.


@needs_cpu_kernels
@pytest.mark.parametrize('rank', [1, 3, 8])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_padded_ranks(rank, dtype, reduction, monkeypatch):
    inputs = make_inputs(channels=12, rank=rank, dtype=dtype)
    expected, widths = results(inputs, ALL, reduction, 'cpu'), []

    def pad(x, rank):
        widths.append(rank + 5)
        return rank + 5

    monkeypatch.setattr(PADDED_RANK, pad)
    compare(results(inputs, ALL, reduction, 'cpu'), expected, TOLERANCE[dtype])
    assert set(widths) == {rank + 5}


@needs_cpu_kernels
def test_opcheck_of_padded_ranks(monkeypatch):
    """Shapes without numbers have to be the padded ones, too."""
    monkeypatch.setattr(PADDED_RANK, lambda x, rank: rank + 5)
    check_both_operators(monkeypatch, make_inputs())


# As an operator.


def calls_of(inputs, monkeypatch, *options):
    """The arguments that the operator and its backward pass get."""
    seen, call = {}, Operator.__call__

    def note(self, *args):
        seen[self.name] = args
        return call(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Operator, '__call__', note)
        results(inputs, *options)
    return seen


def check_both_operators(monkeypatch, inputs, reduction='sum'):
    seen = calls_of(inputs, monkeypatch, ALL, reduction, 'cpu')
    assert list(seen) == ['coupled_ssm', 'coupled_ssm_backward']
    checks = ['test_schema', 'test_autograd_registration', 'test_faketensor']
    for of in (MODULE._ssm, MODULE._ssm_backward):
        args = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, seen[of.name])
        args = torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, args)
        torch.library.opcheck(of.overload, tuple(args), test_utils=checks)


@needs_cpu_kernels
@pytest.mark.parametrize('reduction', ['none', 'sum'])
@pytest.mark.parametrize('conv_bias', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_opcheck(reduction, conv_bias, dtype, monkeypatch):
    check_both_operators(monkeypatch, make_inputs(conv_bias=conv_bias, dtype=dtype), reduction)


@needs_cpu_kernels
def test_each_kernel_serves_all_corners(monkeypatch):
    calls = []
    for name in ('convs_forward', 'convs_backward', 'coupled_scan_forward'):
        kernel = getattr(BACKENDS['cpu'], name)
        note = lambda *args, name=name, run=kernel: calls.append(name) or run(*args)  # noqa: E731
        monkeypatch.setattr(BACKENDS['cpu'], name, note)
    results(make_inputs(), ALL, 'sum', 'cpu')
    assert calls == ['convs_forward'] * 2 + ['coupled_scan_forward'] + ['convs_backward'] * 2


@needs_cpu_kernels
def test_backward_keeps_convolved_maps_and_projections():
    inputs, kept = make_inputs((2, 3, 5), 6, 3, 4), []
    leaves = {name: t.requires_grad_() for name, t in inputs.items()}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        run(leaves, ALL, 'sum', 'cpu')
    given = {t.data_ptr() for t in leaves.values()}
    shapes = [tuple(t.shape) for t in kept if t.data_ptr() not in given]
    bias, maps, projected = (2, 6), (4, 2, 3, 5, 6), (4, 2, 3, 5, 2 * 3 + 4 * 4)
    assert sorted(shapes) == sorted([bias, maps, maps, projected])


class Layer(torch.nn.Module):
    def __init__(self, backend):
        super().__init__()
        self.backend = backend

    def forward(self, x, *parameters):
        return coupled_ssm(*nest_coupled_ssm(x, *parameters), ALL, 'sum', self.backend)


@pytest.mark.parametrize('backend', ['reference', CPU])
def test_export_for_maps_of_any_size(backend):
    tensors = tuple(make_inputs().values())
    sizes = {0: Dim('batch'), 1: Dim('height'), 2: Dim('width')}
    shapes = {'x': sizes, 'parameters': (None,) * (len(tensors) - 1)}
    program = torch.export.export(Layer(backend), tensors, dynamic_shapes=shapes)
    nodes = [str(node.target) for node in program.graph.nodes if 'mmv2m' in str(node.target)]
    if backend == 'cpu':
        assert nodes == ['mmv2m.coupled_ssm.default']
    else:
        assert nodes == ['mmv2m.directional_conv.default'] * 8 + ['mmv2m.coupled_scan.default']
    for grid in ((2, 3, 5), (1, 7, 2), (4, 5, 3)):
        given = (make_inputs(grid)['x'], *tensors[1:])
        assert torch.equal(program.module()(*given), Layer(backend)(*given))


@pytest.mark.filterwarnings('error:Dynamo')
@pytest.mark.parametrize('backend', ['reference', CPU])
def test_compiled_gradients(backend):
    leaves = [t.requires_grad_() for t in make_inputs().values()]
    compiled = torch.compile(Layer(backend), backend='aot_eager', fullgraph=True)
    pair = (
        torch.autograd.grad(layer(*leaves).sin().sum(), leaves)
        for layer in (compiled, Layer(backend))
    )
    for found, expected in zip(*pair, strict=True):
        torch.testing.assert_close(found, expected)


# What it refuses.


def changed(name, value):
    """Arguments of which one is another: of the operator, or a tensor of a layer."""
    inputs = make_inputs()
    if name in inputs:
        return nest_coupled_ssm(*(inputs | {name: value}).values())
    names = ('x', 'convs', 'x_proj', 'dt_projs')
    given = list(nest_coupled_ssm(*inputs.values()))
    given[names.index(name)] = value
    return given


LAYER = (torch.zeros(6, 4), torch.zeros(6))
WRONG = [
    ('x', None, TypeError, 'x must be a tensor'),
    ('x', torch.zeros(3, 5, 6), ValueError, r'x must be a \(B, H, W, E\) map'),
    ('x', torch.zeros(2, 3, 5, 6).int(), TypeError, 'x must be real floating point'),
    ('x', torch.zeros(2, 3, 5, 7), ValueError, r'x_proj must have shape \(22, 7\)'),
    ('convs', [LAYER], ValueError, 'two layers each, but have 1 and 2'),
    ('dt_projs', [LAYER] * 3, ValueError, 'two layers each, but have 2 and 3'),
    ('conv', None, TypeError, r'convs\[0\]\[0\] must be a tensor'),
    ('conv', torch.zeros(5, 4), ValueError, r'convs\[0\]\[0\] must have shape \(6, 4\)'),
    ('conv', torch.zeros(6, 2, 4), ValueError, r'convs\[0\]\[0\] must have shape \(6, 1, 4\)'),
    ('second_conv', torch.zeros(6), ValueError, r'convs\[1\]\[0\] must be \(E, taps\) or'),
    ('second_conv', torch.zeros(6, 0), ValueError, r'at least one tap, but has shape \(6, 0\)'),
    ('second_conv_bias', torch.zeros(7), ValueError, r'convs\[1\]\[1\] must have shape \(6,\)'),
    ('x_proj', None, TypeError, 'x_proj must be a tensor'),
    ('x_proj', torch.zeros(21, 6), ValueError, r'x_proj must have shape \(22, 6\)'),
    ('dt_proj', torch.zeros(6), ValueError, r'dt_projs\[0\]\[0\] must be \(E, R\)'),
    ('second_dt_proj', torch.zeros(6, 4), ValueError, r'dt_projs\[1\]\[0\] must have shape'),
    ('second_dt_proj', None, TypeError, r'dt_projs\[1\]\[0\] must be a tensor'),
    ('dt_bias', None, ValueError, r'dt_projs\[0\] has no bias'),
    ('second_dt_bias', torch.zeros(2), ValueError, r'dt_projs\[1\]\[1\] must have shape \(6,\)'),
    ('A', None, ValueError, r'A must be a \(2, 2, E, N\) tensor, but is None'),
    ('A', torch.zeros(4, 4), ValueError, r'A must be a \(2, 2, E, N\) tensor'),
    ('A', torch.zeros(2, 2, 7, 4), ValueError, 'A must have shape'),
    ('weight', None, TypeError, 'weight must be a tensor'),
    ('weight', torch.zeros(2, 6), ValueError, 'weight must have shape'),
    ('D', None, TypeError, 'D must be a tensor'),
    ('D', torch.zeros(6, device='meta'), ValueError, 'D is on meta but x is on cpu'),
]


@pytest.mark.parametrize(('name', 'value', 'error', 'words'), WRONG)
def test_wrong_arguments(name, value, error, words):
    with pytest.raises(error, match=words) as caught:
        coupled_ssm(*changed(name, value))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('options', 'error', 'words'),
    [
        (('UL',), ValueError, 'corners must be a sequence'),
        (((),), ValueError, 'corners must be a sequence'),
        ((('UL', 'XX'),), ValueError, "got 'XX'"),
        (([Corner.of('right', 'left')],), ValueError, 'along both axes'),
        (([Corner.of('right', 'down', (1,))],), ValueError, 'flip nothing'),
        ((ALL, 'mean'), ValueError, 'reduction must be'),
        ((ALL, 'sum', 'other'), ValueError, 'backend must be one of'),
        ((ALL, 'sum', 'mamba_ssm'), RuntimeError, "backend 'mamba_ssm'"),
    ],
)
def test_wrong_options(options, error, words):
    with pytest.raises(error, match=words):
        coupled_ssm(*nest_coupled_ssm(*make_inputs().values()), *options)
