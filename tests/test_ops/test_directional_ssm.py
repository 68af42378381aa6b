import naive
import pytest
import torch
from scan_inputs import make_ssm_inputs

from mmv2m.ops import DIRECTIONS, directional_ssm

OPTIONS = dict(directions=['right', 'up'], backend='reference')


def run_naive(inputs, direction, projects):
    x = inputs['x']
    if inputs['conv_weight'] is not None:
        x = x * naive.silu(inputs['gate'])
        x = naive.conv(x, inputs['conv_weight'], inputs['conv_bias'], direction)
    rank, states = inputs['dt_proj'].shape[1], inputs['A'].shape[1]
    dt, *sides = (x @ inputs['x_proj'].T).split([rank, *[states] * (1 + (projects == 'both'))], -1)
    return naive.scan(
        x,
        dt @ inputs['dt_proj'].T,
        inputs['A'],
        B=None if projects == 'output' else sides[0],
        C=None if projects == 'input' else sides[-1],
        D=inputs['D'],
        bias=inputs['dt_bias'],
        use_softplus=True,
        way=direction,
    )


def float64_inputs(**settings):
    inputs = make_ssm_inputs(**settings)
    return {k: None if v is None else v.double() for k, v in inputs.items()}


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize('projects', ['input', 'output', 'both'])
@pytest.mark.parametrize('conv', [True, False])
def test_agrees_with_the_equations(direction, projects, conv):
    inputs = float64_inputs(projects=projects, conv=conv)
    y = directional_ssm(**inputs, directions=[direction], projects=projects)
    assert naive.relative_error(y[0], run_naive(inputs, direction, projects)) < 1e-12


@pytest.mark.parametrize('conv', [True, False])
def test_each_direction_has_its_own_map(conv):
    inputs = float64_inputs(maps=2, conv=conv)
    y = directional_ssm(**inputs, **OPTIONS)
    for k, direction in enumerate(OPTIONS['directions']):
        alone = directional_ssm(**inputs | dict(x=inputs['x'][k]), directions=[direction])
        assert torch.equal(y[k], alone[0])


def test_sum_over_directions():
    inputs = float64_inputs()
    stacked = directional_ssm(**inputs, **OPTIONS)
    assert torch.allclose(directional_ssm(**inputs, **OPTIONS, reduction='sum'), stacked.sum(0))


def test_parameters_as_a_model_keeps_them():
    """The logarithm of A, and a Conv1d's weight: the same output; gradients by the chain rule."""
    plain = {k: v.requires_grad_() for k, v in float64_inputs().items()}
    kept = {k: v.detach().clone() for k, v in plain.items()}
    kept.update(A=(-kept['A']).log(), conv_weight=kept['conv_weight'].unsqueeze(1))
    kept = {k: v.requires_grad_() for k, v in kept.items()}
    directional_ssm(**plain, **OPTIONS).sin().sum().backward()
    y = directional_ssm(**kept, **OPTIONS, log_A=True)
    y.sin().sum().backward()
    assert torch.allclose(y, directional_ssm(**plain, **OPTIONS))
    assert torch.allclose(kept['A'].grad, plain['A'].grad * plain['A'])
    assert torch.allclose(kept['conv_weight'].grad.squeeze(1), plain['conv_weight'].grad)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('conv', [True, False])
def test_autocast_around_it_changes_nothing(dtype, conv):
    inputs = make_ssm_inputs(dtype=dtype, conv=conv)
    expected = directional_ssm(**inputs, **OPTIONS)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(directional_ssm(**inputs, **OPTIONS), expected)


@pytest.mark.parametrize(
    ('changes', 'error', 'words'),
    [
        (dict(projects='all'), ValueError, 'projects must be one of input, output, both'),
        (dict(reduction='mean'), ValueError, 'reduction must be one of none, sum'),
        (dict(directions='right'), ValueError, 'directions must be a sequence of names'),
        (dict(directions=[]), ValueError, 'directions must be a sequence of names'),
        (dict(directions=['forward', 'up']), ValueError, 'direction must be one of right'),
        (dict(x=torch.rand(3, 2, 3, 5, 6)), ValueError, 'x has 3 maps for 2 directions'),
        (dict(x=torch.rand(2, 3, 6)), ValueError, r'x must be \(B, H, W, E\) or \(K, B'),
        (dict(gate=torch.rand(2, 3, 5, 7)), ValueError, 'gate must have shape'),
        (dict(gate=torch.rand(2, 3, 5, 6).double()), TypeError, 'gate is torch.float64 but'),
        (dict(conv_weight=torch.rand(5, 4)), ValueError, r'conv_weight must have shape \(6, 4\)'),
        (dict(conv_weight=None), ValueError, 'gate needs a convolution, but conv_weight is None'),
        (dict(conv_weight=None, gate=None), ValueError, 'conv_bias needs a convolution'),
        (dict(x_proj=torch.rand(8, 6)), ValueError, r'x_proj must have shape \(7, 6\)'),
        (dict(conv_weight=torch.rand(6, 0)), ValueError, 'with at least one tap'),
        (dict(conv_weight=torch.tensor(1.0)), ValueError, r'conv_weight must be \(E, taps\)'),
        (dict(x_proj=None), TypeError, 'x_proj must be a tensor'),
        (dict(dt_proj=None), TypeError, 'dt_proj must be a tensor'),
        (dict(dt_bias=None), TypeError, 'dt_bias must be a tensor'),
        (dict(A=None), TypeError, 'A must be a tensor'),
        (dict(A=torch.tensor(1.0)), ValueError, r'A must be \(E, N\)'),
        (dict(dt_proj=torch.rand(6)), ValueError, r'dt_proj must be \(E, R\)'),
        (dict(D=None), TypeError, 'D must be a tensor'),
        (dict(x=None), TypeError, 'x must be a tensor'),
        (dict(D=torch.rand(5)), ValueError, 'D must have shape'),
        (dict(dt_bias=torch.ones(6, dtype=torch.int64)), TypeError, 'dt_bias must be real'),
        (dict(backend='opencl'), ValueError, "but got 'opencl'"),
    ],
)
def test_wrong_arguments(changes, error, words):
    with pytest.raises(error, match=words):
        directional_ssm(**{**make_ssm_inputs(), **OPTIONS, **changes})
