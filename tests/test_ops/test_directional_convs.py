"""Convolutions in several directions at once, beside one after the other."""

import naive
import pytest
import torch
from cpu_kernels import needs_cpu_kernels
from kernel_comparison import compare_backend

from mmv2m.ops import BACKENDS, DIRECTIONS, Direction, directional_conv

ALL = tuple(DIRECTIONS)
SHAPES = [(2, 3, 5, 37), (1, 1, 7, 4), (2, 4, 1, 33), (1, 1, 1, 1)]
CPU_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def make_inputs(maps=0, shape=(2, 3, 5, 4), taps=4, bias=True, dtype=torch.float64):
    """Make one map for all directions, or ``maps`` of them. The parameters are float64."""
    generator = torch.Generator().manual_seed(0)
    whole = (maps, *shape) if maps else shape
    sizes = dict(x=whole, weight=(shape[-1], taps), bias=(shape[-1],))
    made = {
        name: torch.randn(size, generator=generator, dtype=torch.float64)
        for name, size in sizes.items()
    }
    return made | dict(x=made['x'].to(dtype), bias=made['bias'] if bias else None)


def one_by_one(x, weight, bias, directions, backend='reference'):
    maps = x if x.dim() == 5 else [x] * len(directions)
    pairs = zip(maps, directions, strict=True)
    return torch.stack([directional_conv(m, weight, bias, way, backend) for m, way in pairs])


def results(function, inputs, directions, backend='reference'):
    """Output and every gradient."""
    leaves = {k: None if t is None else t.clone().requires_grad_() for k, t in inputs.items()}
    y = function(*leaves.values(), directions, backend)
    y.backward(y.detach().cos())
    return [y.detach(), *(leaf.grad for leaf in leaves.values() if leaf is not None)]


def both(*args):
    """Pairs of these, of all directions at once and of one after the other."""
    pair = (results(function, *args) for function in (directional_conv, one_by_one))
    return zip(*pair, strict=True)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('separate', [False, True])
@pytest.mark.parametrize('directions', [('up',), ('left', 'right'), ALL])
@pytest.mark.parametrize('bias', [True, False])
def test_is_one_direction_after_the_other(shape, separate, directions, bias):
    inputs = make_inputs(len(directions) * separate, shape, bias=bias)
    for found, expected in both(inputs, directions):
        assert naive.relative_error(found, expected) < 1e-12


@pytest.mark.parametrize('separate', [False, True])
def test_agrees_with_the_equation(separate):
    x, weight, bias = make_inputs(4 * separate).values()
    found = directional_conv(x, weight, bias, ALL)
    for k, way in enumerate(ALL):
        expected = naive.conv(x[k] if separate else x, weight, bias, way)
        assert naive.relative_error(found[k], expected) < 1e-12


@needs_cpu_kernels
@pytest.mark.parametrize('dtype', CPU_TOLERANCE)
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('separate', [False, True])
@pytest.mark.parametrize('directions', [('down',), ALL, ('left', 'left', 'up')])
@pytest.mark.parametrize(('taps', 'bias'), [(4, True), (1, False), (9, True)])
def test_kernels_of_the_cpu(dtype, shape, separate, directions, taps, bias):
    inputs = make_inputs(len(directions) * separate, shape, taps, bias, dtype)
    inputs = {k: t.float() if t is not None and k != 'x' else t for k, t in inputs.items()}
    compare_backend(directional_conv, inputs, CPU_TOLERANCE[dtype], 'cpu', direction=directions)


@needs_cpu_kernels
def test_one_launch_for_all_directions(monkeypatch):
    calls = []
    for name in ('conv_forward', 'conv_backward', 'convs_forward', 'convs_backward'):
        run = getattr(BACKENDS['cpu'], name)
        note = lambda *args, name=name, run=run: calls.append(name) or run(*args)  # noqa: E731
        monkeypatch.setattr(BACKENDS['cpu'], name, note)
    results(directional_conv, make_inputs(dtype=torch.float32), ALL, 'cpu')
    assert calls == ['convs_forward', 'convs_backward']


@pytest.mark.parametrize('backend', ['reference', pytest.param('cpu', marks=needs_cpu_kernels)])
@pytest.mark.parametrize('shape', [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (2, 3, 4, 0)])
@pytest.mark.parametrize('separate', [False, True])
@pytest.mark.parametrize('directions', [('left',), ALL])
def test_maps_of_no_size(backend, shape, separate, directions):
    count = len(directions)
    inputs = make_inputs(count * separate, shape, dtype=torch.float32)
    y, *gradients = results(directional_conv, inputs, directions, backend)
    assert y.shape == (count, *shape)
    for gradient, t in zip(gradients, inputs.values(), strict=True):
        assert torch.equal(gradient, torch.zeros_like(t))


@pytest.mark.parametrize('backend', ['reference', pytest.param('cpu', marks=needs_cpu_kernels)])
@pytest.mark.parametrize(
    'order', [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 0, 3, 2, 4), (3, 0, 4, 1, 2)]
)
def test_maps_with_any_strides(backend, order):
    inputs = make_inputs(4, dtype=torch.float32)
    back = torch.argsort(torch.tensor(order)).tolist()
    turned = inputs | dict(x=inputs['x'].permute(order).contiguous().permute(back))
    assert torch.equal(turned['x'], inputs['x'])
    pair = (results(directional_conv, given, ALL, backend) for given in (turned, inputs))
    for found, expected in zip(*pair, strict=True):
        torch.testing.assert_close(found, expected)


@needs_cpu_kernels
def test_output_and_gradients_are_contiguous():
    # A compiler relies on it: the operators' fakes say so.
    x, weight, _ = make_inputs(4, dtype=torch.float32).values()
    x, weight = x.transpose(0, 4).contiguous().transpose(0, 4), weight.float()
    options = (None, ','.join(ALL), 'cpu')
    y = torch.ops.mmv2m.directional_convs(x, weight, *options)
    gradients = torch.ops.mmv2m.directional_convs_backward(y.mT.clone().mT, x, weight, *options)
    assert all(t.is_contiguous() for t in (y, *gradients))


@pytest.mark.parametrize('separate', [False, True])
def test_gradcheck(separate):
    x, weight, bias = (t.requires_grad_() for t in make_inputs(2 * separate, (1, 2, 3, 2)).values())
    directions = ('left', 'down')
    assert torch.autograd.gradcheck(
        lambda *tensors: directional_conv(*tensors, directions), (x, weight, bias)
    )


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)]
)
def test_precision(dtype, tolerance):
    inputs = make_inputs(2, dtype=dtype)
    y = directional_conv(*inputs.values(), ('right', 'up'))
    assert y.dtype == dtype
    for k, way in enumerate(('right', 'up')):
        x, weight, bias = inputs.values()
        assert naive.relative_error(y[k], naive.conv(x[k], weight, bias, way)) < tolerance


def test_directions_by_value():
    tensors = make_inputs().values()
    by_name = directional_conv(*tensors, ['left', 'up'])
    values = [DIRECTIONS['left'], DIRECTIONS['up']]
    assert isinstance(values[0], Direction)
    assert torch.equal(directional_conv(*tensors, values), by_name)
    # A direction is a tuple, but stands for itself.
    assert torch.equal(directional_conv(*tensors, values[0]), by_name[0])


@needs_cpu_kernels
def test_two_runs_agree_to_the_bit():
    inputs = make_inputs(dtype=torch.float32)
    pair = (results(directional_conv, inputs, ALL, 'cpu') for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


@needs_cpu_kernels
def test_backward_keeps_inputs_only():
    inputs, kept = make_inputs(dtype=torch.float32), []
    leaves = [t.float().requires_grad_() for t in inputs.values()]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        directional_conv(*leaves, ALL, 'cpu')
    assert {t.data_ptr() for t in kept} == {t.data_ptr() for t in leaves}


class Convs(torch.nn.Module):
    """From a shared map, then from one a direction."""

    def forward(self, x, weight, bias):
        maps = directional_conv(x, weight, bias, ('left', 'right'), backend='cpu')
        return directional_conv(maps, weight, bias, ('up', 'down'), backend='cpu')


@needs_cpu_kernels
def test_export_sees_one_node_an_operator():
    arguments = tuple(t.float() for t in make_inputs().values())
    shapes = ({0: torch.export.Dim('batch'), 1: torch.export.Dim('height')}, None, None)
    program = torch.export.export(Convs(), arguments, dynamic_shapes=shapes)
    names = [str(node.target) for node in program.graph.nodes if 'mmv2m' in str(node.target)]
    assert names == ['mmv2m.directional_convs.default'] * 2
    x, *parameters = arguments
    for maps in (x, x.repeat(3, 2, 1, 1)):
        expected = Convs()(maps, *parameters)
        assert torch.equal(program.module()(maps, *parameters), expected)


@needs_cpu_kernels
def test_compiled_gradients():
    leaves = [t.float().requires_grad_() for t in make_inputs().values()]
    compiled = torch.compile(Convs(), backend='aot_eager', fullgraph=True)
    pair = (torch.autograd.grad(f(*leaves).sin().sum(), leaves) for f in (compiled, Convs()))
    for found, expected in zip(*pair, strict=True):
        torch.testing.assert_close(found, expected)


@needs_cpu_kernels
@pytest.mark.parametrize('separate', [False, True])
@pytest.mark.parametrize('bias', [True, False])
def test_opcheck(separate, bias):
    inputs = make_inputs(3 * separate, bias=bias, dtype=torch.float32).values()
    tensors = [None if t is None else t.float().requires_grad_() for t in inputs]
    options = ('left,up,up', 'cpu')
    torch.library.opcheck(torch.ops.mmv2m.directional_convs.default, (*tensors, *options))
    backward = torch.ops.mmv2m.directional_convs_backward.default
    given = [None if t is None else t.detach() for t in tensors]
    torch.library.opcheck(backward, (torch.randn(3, 2, 3, 5, 4), *given, *options))


@pytest.mark.parametrize(
    ('shape', 'directions', 'words'),
    [
        ((2, 1, 3, 4, 5), 'left', r'with a sequence of K directions \(K, B, H, W, E\)'),
        ((1, 1, 3, 4, 5), DIRECTIONS['left'], r'but has shape \(1, 1, 3, 4, 5\)'),
        ((2, 1, 3, 4, 5), ('left', 'up', 'down'), r'but has shape \(2, 1, 3, 4, 5\)'),
        ((0, 1, 3, 4, 5), ('left',), r'but has shape \(0, 1, 3, 4, 5\)'),
        ((3, 4, 5), ('left',), r'x must be a \(B, H, W, E\) map'),
        ((1, 3, 4, 5), (), r'a sequence of some, but got \(\)'),
        ((0, 1, 3, 4, 5), [], r'a sequence of some, but got \[\]'),
        ((1, 3, 4, 5), None, 'a sequence of some, but got None'),
        ((1, 3, 4, 5), ('left', 'north'), "direction must be one of .*'north'"),
    ],
)
def test_says_what_is_wrong(shape, directions, words):
    with pytest.raises(ValueError, match=words) as caught:
        directional_conv(torch.zeros(shape), torch.ones(5, 4), None, directions)
    assert '\n' not in str(caught.value)
