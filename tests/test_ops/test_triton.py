"""The kernels as operators against the float64 reference; Triton's interpreted without a GPU."""

import naive
import pytest
import torch
from kernel_comparison import CORNERS, DEVICE, KERNELS, TOLERANCE, compare
from scan_inputs import make_inputs, make_ssm_inputs

from mmv2m.ops import (
    DIRECTIONS,
    add_norm,
    channel_norm,
    directional_conv,
    directional_scan,
    directional_ssm,
    gated_linear,
    mlp,
)
from mmv2m.ops.directional_ssm import SIDES

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


@pytest.mark.parametrize('shape', [(0, 2, 3), (1, 0, 3), (1, 2, 0)])
@pytest.mark.parametrize('conv', [True, False])
def test_ssm_of_empty_maps(shape, conv):
    inputs = make_ssm_inputs(shape, conv=conv)
    leaves = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items() if v is not None}
    y = directional_ssm(**inputs | leaves, directions=CORNERS, reduction='sum', backend='triton')
    y.sum().backward()
    assert y.shape == torch.Size((*shape, 6))
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


@pytest.mark.parametrize(
    ('projects', 'reduction', 'maps'),
    [
        *(('input', 'none', 0), ('input', 'sum', 4)),
        *(('output', 'none', 4), ('output', 'sum', 0)),
        *(('both', 'none', 0), ('both', 'sum', 4)),
    ],
)
def test_ssm(projects, reduction, maps):
    assert projects in SIDES
    grid = (2 if reduction == 'none' else 1, 3, 5)
    inputs = make_ssm_inputs(grid, maps=maps, projects=projects)
    options = dict(directions=CORNERS, projects=projects, reduction=reduction)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], **options)


@pytest.mark.parametrize('projects', SIDES)
@pytest.mark.parametrize(('reduction', 'maps'), [('none', 0), ('sum', 0), ('none', 2)])
def test_ssm_without_convolution(projects, reduction, maps):
    inputs = make_ssm_inputs((1, 3, 4), maps=maps, projects=projects, conv=False)
    options = dict(directions=['left', 'down'], projects=projects, reduction=reduction)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], **options)


@pytest.mark.parametrize(
    ('directions', 'conv'),
    [
        (['up'], True),
        (['up'], False),
        (['left', 'right'], False),
        (['down', 'right', 'up'], True),
    ],
)
def test_ssm_subsets_of_directions(directions, conv):
    inputs = make_ssm_inputs(grid=(1, 4, 3), channels=40, rank=5, states=3, conv=conv)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], directions=directions)


@pytest.mark.parametrize(
    ('projects', 'directions', 'conv'),
    [
        ('both', ['right'], False),
        ('both', ['left'], False),
        ('input', ['left', 'right'], False),
        ('output', ['left', 'right'], False),
        ('both', ['left'], True),
    ],
)
def test_ssm_of_long_lanes_in_segments(projects, directions, conv, monkeypatch):
    """A sequence as VMamba scans it, with the logarithm of A."""
    monkeypatch.setattr('mmv2m.ops.triton.segments.LEAST_STEPS', 5)
    inputs = make_ssm_inputs(grid=(2, 1, 19), states=3, projects=projects, conv=conv)
    inputs['A'] = (-inputs['A']).log()
    options = dict(directions=directions, projects=projects, reduction='sum', log_A=True)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], **options)


@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_ssm_with_parameters_as_a_model_keeps_them(reduction):
    inputs = make_ssm_inputs((1, 2, 3))
    inputs.update(A=(-inputs['A']).log(), conv_weight=inputs['conv_weight'].unsqueeze(1))
    options = dict(directions=CORNERS, reduction=reduction, log_A=True)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], **options)


def test_ssm_without_gate_and_conv_bias():
    inputs = make_ssm_inputs((1, 3, 4)) | dict(gate=None, conv_bias=None)
    compare(directional_ssm, inputs, TOLERANCE[torch.float32], directions=CORNERS)


@pytest.mark.parametrize('maps', [0, 2])
def test_ssm_of_maps_with_gaps_and_without_convolution(maps):
    """``x`` is one half of a projection's output, or turned."""
    inputs = make_ssm_inputs(maps=maps, conv=False)
    options = dict(directions=['right', 'up'][: maps or 1], backend='triton')
    x = inputs['x'].to(DEVICE)
    parameters = {k: v.to(DEVICE) for k, v in inputs.items() if k != 'x' and v is not None}
    rest = dict(gate=None, conv_weight=None, conv_bias=None, **parameters)
    expected = directional_ssm(x.contiguous(), **rest, **options)
    with_gaps = torch.cat([x, x], -1).chunk(2, -1)[1]
    turned = x.transpose(-2, -3).contiguous().transpose(-2, -3)
    for other in (with_gaps, turned):
        assert not other.is_contiguous()
        assert torch.equal(directional_ssm(other, **rest, **options), expected)


@pytest.mark.parametrize(
    ('dtype', 'conv', 'directions'),
    [
        *((dtype, True, CORNERS) for dtype in (torch.bfloat16, torch.float16)),
        *((dtype, False, ['left', 'right']) for dtype in (torch.float32, torch.bfloat16)),
    ],
)
def test_ssm_dtypes(dtype, conv, directions):
    inputs = make_ssm_inputs((1, 3, 5), states=16, dtype=dtype, conv=conv)
    compare(directional_ssm, inputs, TOLERANCE[dtype], directions=directions, reduction='sum')


def test_two_runs_agree_to_the_bit():
    gradients = []
    for _ in range(2):
        inputs = make_ssm_inputs((1, 2, 3))
        leaves = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items()}
        y = directional_ssm(**leaves, directions=CORNERS, reduction='sum', backend='triton')
        y.square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves.values()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_ssm_keeps_its_inputs_only():
    inputs = {k: v.to(DEVICE).requires_grad_() for k, v in make_ssm_inputs((1, 2, 3)).items()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        directional_ssm(**inputs, directions=CORNERS, backend='triton')
    assert {t.data_ptr() for t in kept} <= {t.data_ptr() for t in inputs.values()}


def test_compile_sees_one_node():
    nodes = []

    def backend(module, _):
        nodes.extend(str(n.target) for n in module.graph.nodes if 'mmv2m' in str(n.target))
        return module.forward

    inputs = {k: v.to(DEVICE) for k, v in make_ssm_inputs((1, 2, 3)).items()}

    def run(**tensors):
        return directional_ssm(**tensors, directions=CORNERS, backend='triton')

    torch.compile(run, backend=backend, fullgraph=True)(**inputs)
    assert nodes == ['mmv2m.directional_ssm.default']


@pytest.mark.parametrize(('reduction', 'conv'), [('none', True), ('sum', False)])
def test_opcheck(reduction, conv):
    inputs = make_ssm_inputs(grid=(1, 2, 2), conv=conv).values()
    tensors = [None if t is None else t.to(DEVICE).requires_grad_() for t in inputs]
    arguments = (*tensors, 'right,up', 'input', reduction, False, 'triton')
    torch.library.opcheck(torch.ops.mmv2m.directional_ssm.default, arguments)


@pytest.mark.parametrize('dtype', TOLERANCE)
def test_gated_linear(dtype):
    x, z = torch.randn(2, 3, 5, 2, 70, generator=torch.Generator().manual_seed(0)).to(dtype)
    compare(gated_linear, dict(x=x, z=z, weight=x[0].flatten(0, 1)), TOLERANCE[dtype])


def make_mlp_inputs(shape, bias=True, dtype=torch.float32, hidden=11, outputs=6):
    generator = torch.Generator().manual_seed(0)
    channels = max(shape[-1], 1)
    tensors = dict(
        x=2 * torch.randn(shape, generator=generator),
        weight=torch.randn(hidden, shape[-1], generator=generator) / channels**0.5,
        bias=torch.randn(hidden, generator=generator),
        out_weight=torch.randn(outputs, hidden, generator=generator),
        out_bias=torch.randn(outputs, generator=generator),
    )
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    return tensors if bias else tensors | dict(bias=None, out_bias=None)


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize(('shape', 'hidden'), [((5,), 3), ((3, 9), 35), ((2, 3, 5, 7), 70)])
def test_mlp(shape, hidden, bias, dtype):
    compare(mlp, make_mlp_inputs(shape, bias, dtype, hidden), 2 * TOLERANCE[dtype])


@pytest.mark.parametrize('left_out', ['bias', 'out_bias'])
def test_mlp_with_one_bias(left_out):
    inputs = make_mlp_inputs((37, 20), hidden=150, outputs=140) | {left_out: None}
    compare(mlp, inputs, 2 * TOLERANCE[torch.float32])


def test_mlp_of_a_transposed_map():
    inputs = make_mlp_inputs((3, 5, 7))

    def transposed(x, **parameters):
        return mlp(x.transpose(0, 1), **parameters)

    compare(transposed, inputs, 2 * TOLERANCE[torch.float32])


def test_gelu_of_extreme_numbers():
    x = torch.tensor([-1e18, -40.0, -6.0, -0.0, 1e-30, 6.0, 40.0, 1e18], device=DEVICE)
    one = torch.ones(1, 1, device=DEVICE)
    for backend in KERNELS:
        leaf = x.clone().requires_grad_()
        y = mlp(leaf[:, None], one, None, one, None, backend=backend)
        y.sum().backward()
        twin = x.double().requires_grad_()
        truth = torch.nn.functional.gelu(twin)
        truth.sum().backward()
        assert torch.allclose(y.double()[:, 0], truth, rtol=1e-6, atol=1e-6)
        assert torch.allclose(leaf.grad.double(), twin.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ('shape', 'hidden'), [((0, 4), 11), ((2, 0, 3, 4), 11), ((2, 3, 0), 11), ((2, 3, 4), 0)]
)
def test_mlp_of_empty_maps(shape, hidden):
    inputs = make_mlp_inputs(shape, hidden=hidden)
    leaves, twins = (
        {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items()} for _ in range(2)
    )
    results = []
    for backend, given in (('triton', leaves), ('reference', twins)):
        y = mlp(**given, backend=backend)
        y.sum().backward()
        results.append([y, *(leaf.grad for leaf in given.values())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mlp_under_autocast(dtype):
    """Its dtype in the maps; the parameters' gradients in theirs."""
    inputs = make_mlp_inputs((3, 35), hidden=20)
    leaves = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items()}
    with torch.autocast(DEVICE, dtype):
        y = mlp(**leaves, backend='triton')
        y.backward(torch.full_like(y, 1 / 3))
    assert y.dtype == dtype
    assert all(leaf.grad.dtype == torch.float32 for leaf in leaves.values())
    # Exact in float32: a half precision sum of three such numbers would be rounded.
    third = torch.full_like(y, 1 / 3).float()
    assert torch.equal(leaves['out_bias'].grad, third.sum(0))


def test_mlp_keeps_its_hidden_layer_once():
    inputs = {k: v.to(DEVICE).requires_grad_() for k, v in make_mlp_inputs((2, 3, 4)).items()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        mlp(**inputs, backend='triton')
    own = {t.data_ptr() for t in inputs.values()}
    assert [tuple(t.shape) for t in kept if t.data_ptr() not in own] == [(2, 3, 11)]


def test_mlp_leaves_the_gradient_it_is_given():
    x, *parameters = (t.to(DEVICE) for t in make_mlp_inputs((3, 6)).values())
    x = x.requires_grad_()
    y = mlp(x, *parameters, backend='triton')
    grad_y, before = torch.ones_like(y), x.detach().clone()
    first = torch.autograd.grad(y, x, grad_y, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(y, x, grad_y)[0], first)
    assert torch.equal(grad_y, torch.ones_like(y)) and torch.equal(x, before)


@pytest.mark.parametrize('bias', [False, True])
def test_opcheck_mlp(bias):
    x, *parameters = make_mlp_inputs((1, 2, 3, 5), bias).values()
    x, *parameters = (
        None if t is None else t.to(DEVICE).requires_grad_() for t in (x, *parameters)
    )
    torch.library.opcheck(torch.ops.mmv2m.mlp.default, (x, parameters, 'triton'))


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (35, 300), (0, 5)])
@pytest.mark.parametrize('offset', [False, True])
def test_channel_norm(shape, bias, dtype, offset):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype)
    weight, shift = torch.randn(2, shape[-1], generator=generator)
    tensors = dict(x=x, weight=weight, bias=shift if bias else None)
    tensors['offset'] = torch.randn(shape[-1], generator=generator) if offset else None
    compare(channel_norm, tensors, TOLERANCE[dtype])


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (1, 5, 7, 300)])
@pytest.mark.parametrize('begins, scaled', [(False, False), (True, False), (False, True)])
def test_add_norm(shape, bias, dtype, begins, scaled):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, *shape, generator=generator)
    weight, shift = torch.randn(2, shape[-1], generator=generator)
    residual = maps[1].to(dtype) if begins else maps[1]
    tensors = dict(branch=maps[0].to(dtype), residual=residual, weight=weight)
    tensors['bias'] = shift if bias else None

    factors = [0.0, 1.25][-shape[0] :] if scaled else None

    def both(x, **others):
        exact = torch.promote_types(x.dtype, torch.float32)
        factor = None if factors is None else torch.tensor(factors, dtype=exact, device=x.device)
        normed, total = add_norm(x, factor=factor, **others)
        return (normed + 2 * total).to(x.dtype)

    compare(both, dict(x=tensors.pop('branch'), **tensors), TOLERANCE[dtype])
