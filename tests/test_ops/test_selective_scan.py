"""mamba_ssm's scan on our operator, against the recurrence in float64."""

import importlib
import math
from pathlib import Path

import naive
import pytest
import torch
from selective_scans import differentiable, make, truth

from mmv2m.ops import selective_scan_fn
from mmv2m.ops.selective_scan import scan_groups

BENCHMARKS = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks'
NAMES = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias')


def compare(inputs, tolerance, **options):
    """Outputs, last states and all gradients of both."""
    mine, exact = differentiable(inputs), differentiable(inputs)
    y, state = selective_scan_fn(**mine, **options, return_last_state=True)
    true_y, true_state = truth(**exact, **options)
    assert y.dtype == inputs['u'].dtype and y.shape == true_y.shape
    assert state.dtype == torch.promote_types(y.dtype, torch.float32)
    assert naive.relative_error(y, true_y) < tolerance
    assert naive.relative_error(state, true_state) < tolerance
    weights = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view(y.shape)
    loss = (y.double() * weights).sum() + 0.3 * state.double().square().sum()
    true_loss = (true_y * weights).sum() + 0.3 * true_state.square().sum()
    given = [name for name in NAMES if inputs.get(name) is not None]
    grads = torch.autograd.grad(loss, [mine[name] for name in given])
    true_grads = torch.autograd.grad(true_loss, [exact[name] for name in given])
    for name, grad, true in zip(given, grads, true_grads, strict=True):
        assert grad.shape == true.shape, name
        assert naive.relative_error(grad, true) < 3 * tolerance, name


@pytest.mark.parametrize('softplus', [False, True])
@pytest.mark.parametrize(
    ('B', 'C'), [(None, None), (1, 1), (None, 1), (2, 2), (3, 3), (6, 6), (0, 0), (0, 3), (2, 0)]
)
def test_agrees_with_the_recurrence(B, C, softplus):
    compare(make(B=B, C=C), 1e-12, delta_softplus=softplus)


@pytest.mark.parametrize('sizes', [(1, 1, 1, 1), (3, 2, 1, 5), (1, 4, 33, 2), (2, 8, 5, 1)])
def test_odd_sizes(sizes):
    compare(make(*sizes, B=sizes[1], C=sizes[1]), 1e-12, delta_softplus=True)


@pytest.mark.parametrize('without', ['D', 'z', 'delta_bias'])
def test_what_is_left_out(without):
    compare({**make(B=2, C=2), without: None}, 1e-12, delta_softplus=True)


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)]
)
@pytest.mark.parametrize('groups', [None, 2])
def test_dtypes(dtype, tolerance, groups):
    compare(make(B=groups, C=groups, dtype=dtype), tolerance, delta_softplus=True)


@pytest.mark.parametrize('groups', [1, 2])
def test_any_strides(groups):
    inputs = make(B=groups, C=groups, length=8)
    y = selective_scan_fn(**inputs)
    spread = {
        k: v.repeat_interleave(2, -1)[..., ::2] if v.dim() > 2 else v for k, v in inputs.items()
    }
    turned = {
        k: v.transpose(1, -1).contiguous().transpose(1, -1) if v.dim() > 2 else v
        for k, v in inputs.items()
    }
    for other in (spread, turned):
        assert not other['u'].is_contiguous()
        torch.testing.assert_close(selective_scan_fn(**other), y)


def test_no_copy_of_channels_that_lie_side_by_side():
    inputs = make(B=None, C=None)
    u = inputs['u'].transpose(1, 2).contiguous().transpose(1, 2)
    (group,) = scan_groups(**{**inputs, 'u': u})
    assert group.x.is_contiguous() and group.x.data_ptr() == u.data_ptr()
    y = selective_scan_fn(**{**inputs, 'u': u})
    assert y.transpose(1, 2).is_contiguous()


def test_long_sequences_keep_the_last_state():
    inputs = make(1, 2, 3000, 4, B=None, C=None, dtype=torch.float32)
    _, state = selective_scan_fn(**inputs, delta_softplus=True, return_last_state=True)
    exact = {k: v.double() for k, v in inputs.items()}
    _, true = selective_scan_fn(**exact, delta_softplus=True, return_last_state=True)
    h = torch.zeros(2, 4, dtype=torch.float64)
    steps = naive.softplus(exact['delta'][0] + exact['delta_bias'][:, None])
    for t in range(3000):
        added = steps[:, t, None] * exact['u'][0, :, t, None] * exact['B'][0, :, t]
        h = torch.exp(steps[:, t, None] * exact['A']) * h + added
    assert naive.relative_error(true[0], h) < 1e-12
    assert naive.relative_error(state[0], h) < 1e-5


@pytest.mark.parametrize('large', [100.0, 1e8, torch.inf])
def test_the_last_state_decays_behind_a_large_step(large):
    u = torch.ones(1, 1, 3)
    delta = torch.tensor([[[0.5, large, 1.0]]])
    _, state = selective_scan_fn(u, delta, -torch.ones(1, 1), u, u, return_last_state=True)
    torch.testing.assert_close(state.item(), large * math.exp(-1) + 1)


def test_the_last_state_is_float32_beside_a_float64_bias():
    inputs = make(channels=6, dtype=torch.float32)
    inputs['delta_bias'] = inputs['delta_bias'].double()
    assert selective_scan_fn(**inputs, return_last_state=True)[1].dtype == torch.float32


def test_the_last_state_that_mamba_vision_asks_for():
    inputs = make(B=None, C=None)
    y = selective_scan_fn(**inputs, return_last_state=None)  # as MambaVision calls it
    torch.testing.assert_close(y, truth(**inputs)[0])


@pytest.mark.parametrize('groups', [None, 2])
def test_it_compiles_as_one_graph(groups):
    inputs = differentiable(make(B=groups, C=groups, dtype=torch.float32))

    def run(**arguments):
        y, state = selective_scan_fn(**arguments, delta_softplus=True, return_last_state=True)
        return y.sum() + state.square().sum()

    compiled = torch.compile(run, backend='aot_eager', fullgraph=True)
    losses = [function(**inputs) for function in (run, compiled)]
    torch.testing.assert_close(*losses)
    grads = [torch.autograd.grad(loss, list(inputs.values())) for loss in losses]
    torch.testing.assert_close(*grads)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')
@pytest.mark.parametrize('groups', [None, 4])
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2), (torch.float16, 5e-3)]
)
def test_on_a_gpu(dtype, tolerance, groups):
    inputs = make(2, 64, 50, 16, B=groups, C=groups, dtype=dtype)
    mine = differentiable({k: v.cuda() for k, v in inputs.items()})
    exact = differentiable({k: v.double() for k, v in inputs.items()})
    found, true = (
        selective_scan_fn(**i, delta_softplus=True, return_last_state=True) for i in (mine, exact)
    )
    for value, expected in zip(found, true, strict=True):
        assert naive.relative_error(value.cpu(), expected) < tolerance
    losses = (y.float().square().sum() + state.float().sum() for y, state in (found, true))
    grads, truths = (
        torch.autograd.grad(loss, list(i.values()))
        for loss, i in zip(losses, (mine, exact), strict=True)
    )
    for name, grad, expected in zip(NAMES, grads, truths, strict=True):
        assert naive.relative_error(grad.cpu(), expected) < 3 * tolerance, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no GPU')
@pytest.mark.parametrize('gated', [False, True])
@pytest.mark.parametrize('groups', [None, 4])
def test_beside_mamba_ssm(groups, gated, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    if not importlib.import_module('bare_package').provide_package('mamba_ssm'):
        pytest.skip('mamba_ssm is not installed')
    interface = importlib.import_module('mamba_ssm.ops.selective_scan_interface')
    inputs = make(2, 64, 50, 16, B=groups, C=groups, dtype=torch.float32)
    given = {k: v.cuda() for k, v in inputs.items() if k != 'z' or gated}
    results = []
    for function in (selective_scan_fn, interface.selective_scan_fn):
        own = differentiable(given)
        y, state = function(**own, delta_softplus=True, return_last_state=True)
        grads = torch.autograd.grad(y.square().sum(), list(own.values()))
        results.append((y, state, *grads))
    for value, expected in zip(*results, strict=True):
        assert naive.relative_error(value, expected) < 1e-4


def test_no_tokens():
    y, state = selective_scan_fn(**make(length=0, B=None, C=None), return_last_state=True)
    assert y.shape == (2, 6, 0) and not state.any() and state.shape == (2, 6, 3)


@pytest.mark.parametrize(
    ('name', 'value', 'error', 'words'),
    [
        ('A', torch.ones(6, 3, dtype=torch.complex64), TypeError, 'A must be real, but is torch.c'),
        ('A', torch.ones(5, 3), ValueError, r'A must have shape \(6, 3\) beside u of'),
        ('u', torch.ones(6, 7), ValueError, r'u must be a \(B, D, L\) tensor, but has shape'),
        ('delta', torch.ones(2, 6, 7).half(), TypeError, 'delta is torch.float16 but u is'),
        ('z', torch.ones(2, 6, 8).double(), ValueError, r'z must have shape \(2, 6, 7\)'),
        ('D', torch.ones(12), ValueError, r'D must have shape \(6,\)'),
        ('delta_bias', torch.ones(7), ValueError, r'delta_bias must have shape \(6,\)'),
        ('B', torch.ones(2, 4, 3, 7).double(), ValueError, 'same number of groups, a divisor of'),
        ('B', torch.ones(2, 3, 3, 7).double(), ValueError, 'same number of groups, a divisor of'),
        ('C', torch.ones(2, 1, 2, 7).double(), ValueError, r'C must have shape \(2, 1, 3, 7\)'),
        ('C', torch.ones(2, 1, 3, 7), TypeError, 'C is torch.float32 but u is torch.float64'),
    ],
)
def test_refusals(name, value, error, words):
    with pytest.raises(error, match=words):
        selective_scan_fn(**{**make(), name: value})
