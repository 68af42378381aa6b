"""Both halves of the 2D SSM as one operator, and the mixer, beside the float64 reference."""

import naive
import pytest
import torch
from kernel_comparison import DEVICE, KERNELS, TOLERANCE, compare
from mixer_inputs import WAYS, groups_of, halves_of, make_2d_inputs, make_mixer_inputs, mix

from mmv2m.ops import Halves, corner_ssm, directional_ssm, ss2d

pytest.importorskip('triton')

CORNERS = ('right-down,left-up,up-left', 'down-right,up-left')


def scan_both_ways(x, gate, reduction='sum', backend='triton', **parameters):
    """``corner_ssm`` with the halves' parameters told apart by their names."""
    return corner_ssm(x, gate, groups_of(parameters), reduction, backend, log_A=True)


@pytest.mark.parametrize(
    ('reduction', 'groups', 'states', 'conv'),
    [
        *(('none', 1, 1, True), ('none', 1, 4, False)),
        *(('sum', 1, 1, False), ('sum', 1, 4, True)),
        *(('sum', 2, 1, True), ('sum', 2, 4, False)),
    ],
)
def test_corner_ssm(reduction, groups, states, conv):
    """Of single states, projections are kept; a second group adds to what the first has made."""
    tolerance = 2 * TOLERANCE[torch.float32]  # two halves
    grid = (2 if reduction == 'none' else 1, 2, 3)
    inputs = make_2d_inputs(conv, states=states, groups=groups, grid=grid)
    compare(scan_both_ways, inputs, tolerance, reduction=reduction)


def test_groups_without_a_gate():
    inputs = make_2d_inputs(states=1, groups=2, gated=False)
    compare(scan_both_ways, inputs, 2 * TOLERANCE[torch.float32])


@pytest.mark.parametrize('states', [1, 4])
def test_corner_ssm_is_its_two_scans(states):
    inputs = make_2d_inputs(states=states)
    tensors = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items()}
    one, two = halves_of(tensors, 1, 2)
    first, second = WAYS[0]
    how = dict(backend='triton', log_A=True)
    between = directional_ssm(tensors['x'], None, *one, first, 'input', **how)
    expected = directional_ssm(between, tensors['gate'], *two, second, 'output', 'sum', **how)
    y = scan_both_ways(**tensors)
    assert torch.equal(y, expected)
    given = list(tensors.values())
    grads = [torch.autograd.grad(z.sin().sum(), given) for z in (y, expected)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_corner_ssm_keeps_little():
    """Of single states, R + 1 numbers a token beside inputs and the maps between the halves."""
    inputs = {k: v.to(DEVICE).requires_grad_() for k, v in make_2d_inputs(states=1).items()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        scan_both_ways(**inputs)
    own = {t.data_ptr() for t in inputs.values()}
    tokens = (3, *inputs['x'].shape[:3])
    found = [tuple(t.shape) for t in kept if t.data_ptr() not in own]
    assert found == [(*tokens, 6), *[(*tokens, 3), (*tokens, 1)] * 2]


@pytest.mark.parametrize(('states', 'groups'), [(1, 2), (4, 1)])
def test_opcheck_corner_ssm(states, groups):
    inputs = make_2d_inputs(states=states, groups=groups, grid=(1, 1, 2))
    x, gate, *parameters = (v.to(DEVICE).requires_grad_() for v in inputs.values())
    corners = ';'.join(CORNERS[:groups])
    arguments = (x, gate, parameters, corners, 'sum', True, 'triton')
    torch.library.opcheck(torch.ops.mmv2m.corner_ssm.default, arguments)


@pytest.mark.parametrize(
    ('states', 'groups', 'dtype', 'gated'),
    [
        (1, 2, torch.float32, True),
        (1, 2, torch.float32, False),
        (4, 1, torch.float32, True),
        (4, 2, torch.float16, True),
        (1, 1, torch.float16, False),
    ],
)
def test_ss2d(states, groups, dtype, gated):
    how = dict(states=states, groups=groups, gated=gated, grid=(2 if groups == 1 else 1, 2, 3))
    inputs = make_mixer_inputs(dtype=dtype, **how)
    inputs['gate'] = None
    compare(mix, inputs, 3 * TOLERANCE[dtype])


@pytest.mark.parametrize(
    ('groups', 'dtype', 'gated'),
    [
        *((1, torch.float32, True), (1, torch.bfloat16, False)),
        *((2, torch.float32, False), (2, torch.bfloat16, True)),
    ],
)
def test_ss2d_without_gradients(groups, dtype, gated):
    inputs = make_mixer_inputs(dtype=dtype, states=1, groups=groups, gated=gated) | dict(gate=None)
    tensors = {name: None if v is None else v.to(DEVICE) for name, v in inputs.items()}
    exact = {name: None if v is None else v.double() for name, v in tensors.items()}
    for backend in KERNELS:
        y = mix(**tensors, backend=backend)
        expected = mix(**exact, backend='reference')
        assert naive.relative_error(y, expected) < 3 * TOLERANCE[dtype]
        assert y.dtype == dtype


@pytest.mark.parametrize('gated', [True, False])
def test_ss2d_under_autocast(gated):
    """Weights and their gradients stay float32; maps are as autocast has products."""
    inputs = make_mixer_inputs(states=1, gated=gated) | dict(gate=None)
    tensors = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items() if v is not None}
    with torch.autocast(DEVICE, torch.bfloat16):
        y = mix(**tensors, gate=None)
    assert y.dtype == torch.bfloat16
    grads = torch.autograd.grad(y.float().sin().sum(), list(tensors.values()))
    exact = {k: v.detach().double().requires_grad_() for k, v in tensors.items()}
    truth = mix(**exact, gate=None, backend='reference')
    truths = torch.autograd.grad(truth.sin().sum(), list(exact.values()))
    for name, grad, expected in zip(tensors, grads, truths, strict=True):
        assert grad.dtype == torch.float32
        assert naive.relative_error(grad, expected) < 5e-2, name


@pytest.mark.parametrize(
    ('name', 'gated'), [('ss2d', True), ('ss2d', False), ('ss2d_inference', True)]
)
def test_opcheck_ss2d(name, gated):
    trains = name == 'ss2d'
    inputs = make_mixer_inputs(gated, states=1, grid=(1, 1, 2))
    tensors = {k: v.to(DEVICE).requires_grad_(trains) for k, v in inputs.items() if v is not None}
    tensors.pop('gate', None)
    leading = ('x', 'in_weight', 'out_weight', 'norm_weight', 'norm_bias')
    first = [tensors.pop(key, None) for key in leading]
    arguments = (*first, list(tensors.values()), CORNERS[0], 1e-5, True, 'triton')
    torch.library.opcheck(getattr(torch.ops.mmv2m, name).default, arguments)


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        (((9, 5), (4, 4)), 'a map and its gate'),
        (((10, 5), (4, 5)), 'conv_weight must have shape'),
        (((8, 3), (4, 4)), 'in_weight must have shape'),
        (((12, 5), (4, 3)), 'out_weight must have shape'),
    ],
)
def test_ss2d_of_wrong_channels(shapes, message):
    groups = [Halves(*halves_of(make_2d_inputs(), 1, 2), *WAYS[0])]
    weights = (torch.randn(shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        ss2d(torch.randn(1, 2, 3, 5), *weights, groups)
