"""Both halves of the 2D SSM as one operator, and the mixer, beside the float64 reference."""

import naive
import pytest
import torch
from kernel_comparison import DEVICE, KERNELS, SSM_PARAMETERS, TOLERANCE, compare
from scan_inputs import make_ssm_inputs

from mmv2m.ops import Halves, directional_ssm, mixer_2d, ssm_2d

pytest.importorskip('triton')

WAYS = (
    (['right', 'left', 'up'], ['down', 'up', 'left']),
    (['down', 'up'], ['right', 'left']),
)


def halves_of(parameters, *numbers):
    """The parameters of halves, whose numbers stand behind the names, as ``Halves`` takes them."""
    return [[parameters.get(f'{name}_{i}') for name in SSM_PARAMETERS] for i in numbers]


def groups_of(parameters):
    """One, of the halves 1 and 2, or two, of 3 and 4 too."""
    number = 2 if 'A_3' in parameters else 1
    return [Halves(*halves_of(parameters, 2 * i + 1, 2 * i + 2), *WAYS[i]) for i in range(number)]


def scan_both_ways(x, gate, reduction='sum', backend='triton', **parameters):
    """``ssm_2d`` with the halves' parameters told apart by their names."""
    return ssm_2d(x, gate, groups_of(parameters), reduction, backend, log_A=True)


def make_2d_inputs(conv=True, dtype=torch.float32, states=4, groups=1, gated=True, grid=(2, 2, 3)):
    """x, gate, and both halves' parameters of each group."""
    tensors = {}
    for half in range(1, 2 * groups + 1):
        projects = 'input' if half % 2 else 'output'
        own = make_ssm_inputs(grid, projects=projects, dtype=dtype, states=states)
        own['A'] = (-own['A']).log()
        tensors |= dict(x=own.pop('x'), gate=own.pop('gate') if gated else None)
        own.pop('gate', None)
        tensors |= {f'{name}_{half}': value + half / 20 for name, value in own.items()}
        if not conv:
            tensors |= {'gate': None, f'conv_weight_{half}': None, f'conv_bias_{half}': None}
    return tensors


@pytest.mark.parametrize(('reduction', 'groups'), [('none', 1), ('sum', 1), ('sum', 2)])
@pytest.mark.parametrize('states', [1, 4])
@pytest.mark.parametrize('conv', [True, False])
def test_ssm_2d(reduction, groups, states, conv):
    """Of single states, projections are kept; a second group adds to what the first has made."""
    tolerance = 2 * TOLERANCE[torch.float32]  # two halves
    inputs = make_2d_inputs(conv, states=states, groups=groups)
    compare(scan_both_ways, inputs, tolerance, reduction=reduction)


def test_groups_without_a_gate():
    inputs = make_2d_inputs(states=1, groups=2, gated=False)
    compare(scan_both_ways, inputs, 2 * TOLERANCE[torch.float32])


@pytest.mark.parametrize('states', [1, 4])
def test_ssm_2d_is_its_halves(states):
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


def test_ssm_2d_keeps_little():
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
def test_opcheck_ssm_2d(states, groups):
    inputs = make_2d_inputs(states=states, groups=groups, grid=(1, 1, 2))
    x, gate, *parameters = (v.to(DEVICE).requires_grad_() for v in inputs.values())
    ways = (';'.join(','.join(way[i]) for way in WAYS[:groups]) for i in (0, 1))
    arguments = (x, gate, parameters, *ways, 'sum', True, 'triton')
    torch.library.opcheck(torch.ops.mmv2m.ssm_2d.default, arguments)


def mix(x, gate, weight, backend='triton', **parameters):
    """``mixer_2d`` of a map and its gate, given apart."""
    xz = torch.cat([x, gate], -1)
    return mixer_2d(xz, weight, groups_of(parameters), backend, log_A=True)


@pytest.mark.parametrize(
    ('states', 'groups', 'dtype'),
    [(1, 2, torch.float32), (4, 1, torch.float32), (4, 2, torch.float16)],
)
def test_mixer_2d(states, groups, dtype):
    inputs = make_2d_inputs(dtype=dtype, states=states, groups=groups)
    weight = torch.randn(5, inputs['x'].shape[-1], generator=torch.Generator().manual_seed(3)) / 3
    compare(mix, inputs | dict(weight=weight), 2 * TOLERANCE[dtype])


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('groups', [1, 2])
def test_mixer_2d_without_gradients(groups, dtype):
    inputs = make_2d_inputs(dtype=dtype, states=1, groups=groups)
    tensors = {name: value.to(DEVICE) for name, value in inputs.items()}
    tensors['weight'] = torch.randn(5, inputs['x'].shape[-1], device=DEVICE) / 3
    for backend in KERNELS:
        y = mix(**tensors, backend=backend)
        expected = mix(**{name: t.double() for name, t in tensors.items()}, backend='reference')
        assert naive.relative_error(y, expected) < 2 * TOLERANCE[dtype]
        assert y.dtype == dtype


@pytest.mark.parametrize('name', ['mixer_2d', 'mixer_2d_inference'])
def test_opcheck_mixer_2d(name):
    trains = name == 'mixer_2d'
    inputs = make_2d_inputs(states=1, grid=(1, 1, 2))
    x, gate, *parameters = (v.to(DEVICE).requires_grad_(trains) for v in inputs.values())
    xz = torch.cat([x, gate], -1).detach().requires_grad_(trains)
    ways = (','.join(way) for way in WAYS[0])
    weight = torch.randn(5, x.shape[-1], device=DEVICE, requires_grad=trains)
    arguments = (xz, weight, parameters, *ways, True, 'triton')
    torch.library.opcheck(getattr(torch.ops.mmv2m, name).default, arguments)


@pytest.mark.parametrize(('channels', 'message'), [(5, 'a map and its gate'), (8, 'conv_weight')])
def test_mixer_2d_of_wrong_channels(channels, message):
    tensors = make_2d_inputs()
    halves = halves_of(tensors, 1, 2)
    with pytest.raises(ValueError, match=message):
        mixer_2d(torch.randn(1, 2, 3, channels), torch.randn(4, 4), [Halves(*halves, *WAYS[0])])


@pytest.mark.parametrize(('first', 'x'), [(['right'], None), (['right', 'left'], 0)])
def test_ssm_2d_of_wrong_maps(first, x):
    tensors = make_2d_inputs()
    halves = halves_of(tensors, 1, 2)
    given = tensors['x'] if x is None else tensors['x'][x]
    with pytest.raises(ValueError, match='with a second direction for each first one'):
        ssm_2d(given, None, [Halves(*halves, first, ['down', 'up'])])


@pytest.mark.parametrize('number', [0, 2])
def test_ssm_2d_of_a_wrong_number_of_groups(number):
    tensors = make_2d_inputs()
    halves = halves_of(tensors, 1, 2)
    with pytest.raises(ValueError, match=f'groups must be at least one.* but there are {number}'):
        ssm_2d(tensors['x'], None, [Halves(*halves, *WAYS[0])] * number, 'none')
