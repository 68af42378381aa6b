"""The stand-in for mamba_ssm, against the recurrence in float64."""

import importlib
import sys
from types import ModuleType

import naive
import pytest
import torch
import torch.nn.functional as F
from selective_scans import differentiable, make, truth

from mmv2m.ops import can_run, mamba_ssm_stand_in
from mmv2m.ops.mamba_ssm_stand_in import causal_conv1d, extension, interface, norms

ARGUMENTS = ('u', 'delta', 'A', 'B', 'C', 'D', 'z', 'delta_bias')


@pytest.fixture
def modules(monkeypatch):
    """No module of mamba_ssm before and after."""
    before = dict(sys.modules)
    for name in before:
        if name.startswith(('mamba_ssm', 'causal_conv1d', 'selective_scan_cuda')):
            del sys.modules[name]
    monkeypatch.setattr(mamba_ssm_stand_in, '_OURS', {})
    yield sys.modules
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)


def test_imports_find_it(modules):
    assert not mamba_ssm_stand_in.is_installed()
    mamba_ssm_stand_in.install()
    mamba_ssm_stand_in.install()
    assert mamba_ssm_stand_in.is_installed()
    import mamba_ssm.ops.selective_scan_interface as found
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    assert found.selective_scan_fn is selective_scan_fn is interface.selective_scan_fn
    for name in ('selective_scan_cuda', 'selective_scan_cuda_oflex', 'selective_scan_cuda_core'):
        assert callable(importlib.import_module(name).fwd)
    assert importlib.util.find_spec('causal_conv1d') is not None


@pytest.mark.parametrize('name', ['layer_norm', 'layernorm'])
@pytest.mark.parametrize('gpu', [False, True])
def test_norms_without_a_gpu(modules, monkeypatch, name, gpu):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    mamba_ssm_stand_in.install()
    assert (f'mamba_ssm.ops.triton.{name}' in modules) != gpu


def test_it_keeps_the_other_modules_of_a_package(modules, tmp_path, monkeypatch):
    (tmp_path / 'mamba_ssm' / 'ops').mkdir(parents=True)
    for file in ('__init__.py', 'ops/__init__.py'):
        (tmp_path / 'mamba_ssm' / file).write_text('')
    (tmp_path / 'mamba_ssm' / 'ops' / 'selective_scan_interface.py').write_text('import no_such')
    mixer = 'from mamba_ssm.ops.selective_scan_interface import selective_scan_fn as scan'
    (tmp_path / 'mamba_ssm' / 'mixer.py').write_text(mixer)
    monkeypatch.syspath_prepend(tmp_path)
    mamba_ssm_stand_in.install()
    from mamba_ssm.mixer import scan

    assert scan is interface.selective_scan_fn


@pytest.mark.parametrize('name', ['mamba_ssm', 'mamba_ssm.modules', 'selective_scan_cuda'])
def test_it_refuses_to_replace_what_is_in_use(modules, name):
    modules[name] = ModuleType(name)
    modules[name].__file__ = '/some/place.py'
    with pytest.raises(RuntimeError, match=rf'{name} has been imported already \(/some/place.py\)'):
        mamba_ssm_stand_in.install()
    assert not mamba_ssm_stand_in.is_installed()


def test_the_backend_does_not_call_itself(modules):
    mamba_ssm_stand_in.install()
    with pytest.raises(RuntimeError, match='mamba_ssm_stand_in is installed in its place'):
        can_run('mamba_ssm', torch.ones(1, 1, 1, 1), raise_error=True)


@pytest.mark.parametrize('gated', [False, True])
@pytest.mark.parametrize('groups', [1, 3, 0])
def test_extension_agrees_with_the_recurrence(groups, gated):
    inputs = make(B=groups, C=groups)
    inputs['z'] = inputs['z'] if gated else None
    given = tuple(inputs[name] for name in ARGUMENTS)
    y, kept, *rest = extension.fwd(*given, True)
    exact = differentiable(inputs)
    true = truth(**exact, delta_softplus=True)[0]
    without = truth(**{**inputs, 'z': None}, delta_softplus=True)[0]
    assert y.is_contiguous() and naive.relative_error(y, without) < 1e-12
    assert kept.isnan().all() and kept.shape == (2, 6, 1, 6)
    if gated:
        assert naive.relative_error(rest[0], true) < 1e-12
    weights = torch.linspace(-1, 1, true.numel(), dtype=torch.float64).view(true.shape)
    names = [n for n in ('u', 'delta', 'A', 'B', 'C', 'D', 'delta_bias', 'z') if n != 'z' or gated]
    truths = torch.autograd.grad(true, [exact[n] for n in names], weights)
    dz = torch.empty_like(inputs['u']) if gated else None
    grads = extension.bwd(*given, weights, kept, y, dz, True, gated)
    for name, grad, expected in zip(names, grads, truths, strict=False):
        assert grad.shape == expected.shape, name
        assert naive.relative_error(grad, expected) < 1e-12, name
    assert len(grads) == len(names) + gated
    if gated:
        assert grads[-2] is dz and naive.relative_error(grads[-1], true) < 1e-12


def test_extension_of_vmamba_returns_float32_if_asked():
    inputs = make(B=2, C=2, dtype=torch.bfloat16)
    del inputs['z']
    given = tuple(inputs.values())
    flexible = extension.fwd_oflex(*given, True, 1, True)[0]
    core = extension.fwd_oflex(*given, True, 1)[0]
    assert flexible.dtype == torch.float32 and core.dtype == torch.bfloat16
    assert torch.equal(flexible, core.float())
    grads = extension.bwd_oflex(*given, flexible, None, True, 1)
    assert [g.dtype for g in grads[:2]] == [torch.bfloat16] * 2 and len(grads) == 7


def mixer_inputs(batch=2, channels=5, length=6, rank=2, states=3, constant=False):
    generator = torch.Generator().manual_seed(1)

    def normal(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    rows = rank + (0 if constant else 2 * states)
    return dict(
        xz=normal(batch, 2 * channels, length),
        conv1d_weight=normal(channels, 1, 4),
        conv1d_bias=normal(channels),
        x_proj_weight=normal(rows, channels),
        delta_proj_weight=normal(channels, rank),
        out_proj_weight=normal(4, channels),
        out_proj_bias=normal(4),
        A=-normal(channels, states).exp(),
        B=normal(channels, states) if constant else None,
        C=normal(channels, states) if constant else None,
        D=normal(channels),
        delta_bias=normal(channels),
        B_proj_bias=None if constant else normal(states),
        C_proj_bias=None if constant else normal(states),
    )


def true_mixer(inputs, flip=False, norms=(None, None, None)):
    """Before the output projection, (B, E, L), composed of PyTorch's operators."""
    xz, rank, states = inputs['xz'], inputs['delta_proj_weight'].shape[1], inputs['A'].shape[1]
    x, z = xz.chunk(2, 1)
    padded = F.pad(x, (3, 0))
    x = F.conv1d(padded, inputs['conv1d_weight'], inputs['conv1d_bias'], groups=x.shape[1])
    x = x * torch.sigmoid(x)
    projected = torch.einsum('bel,re->brl', x, inputs['x_proj_weight'])
    delta = torch.einsum('brl,er->bel', projected[:, :rank], inputs['delta_proj_weight'])
    sides = dict(B=projected[:, rank : rank + states], C=projected[:, -states:])
    for name, weight in zip('BC', norms, strict=False):
        if inputs[name] is not None:
            sides[name] = inputs[name]
            continue
        sides[name] = normed(sides[name] + inputs[f'{name}_proj_bias'][:, None], weight)
    arguments = dict(u=x, delta=normed(delta, norms[2]), **sides, z=z)
    if flip:
        arguments = {k: v.flip(-1) for k, v in arguments.items()}
    rest = {name: inputs[name] for name in ('A', 'D', 'delta_bias')}
    y = truth(**arguments, **rest, delta_softplus=True)[0]
    return y.flip(-1) if flip else y


def normed(x, weight, eps=1e-6):
    if weight is None:
        return x
    return x / torch.sqrt(x.square().mean(1, keepdim=True) + eps) * weight[:, None]


def assert_alike(found, expected, leaves):
    assert naive.relative_error(found, expected) < 1e-12
    weights = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view(expected.shape)
    grads, truths = (
        torch.autograd.grad(y, list(leaves.values()), weights, retain_graph=True, allow_unused=True)
        for y in (found, expected)
    )
    for name, grad, true in zip(leaves, grads, truths, strict=True):
        assert (grad is None) == (true is None), name
        assert true is None or naive.relative_error(grad, true) < 1e-11, name


@pytest.mark.parametrize('constant', [False, True])
def test_mixers_agree_with_a_composition(constant):
    inputs = differentiable(mixer_inputs(constant=constant))
    leaves = {k: v for k, v in inputs.items() if v is not None}
    y = true_mixer(inputs)
    out = {name: inputs[name] for name in ('out_proj_weight', 'out_proj_bias')}
    projected = F.linear(y.transpose(1, 2), *out.values())
    assert_alike(interface.mamba_inner_fn(**inputs), projected, leaves)
    rest = {k: v for k, v in inputs.items() if k not in out}
    found = interface.mamba_inner_fn_no_out_proj(**rest)
    assert_alike(found, y, {k: v for k, v in leaves.items() if k not in out})


def test_mixer_of_both_ways():
    inputs = differentiable(mixer_inputs())
    backwards = {**inputs, 'A': (2 * inputs['A']).detach().requires_grad_()}
    y = true_mixer(inputs) + true_mixer(backwards, flip=True)
    expected = F.linear(y.transpose(1, 2), inputs['out_proj_weight'], inputs['out_proj_bias'])
    leaves = {k: v for k, v in {**inputs, 'A_b': backwards['A']}.items() if v is not None}
    assert_alike(interface.bimamba_inner_fn(**inputs, A_b=backwards['A']), expected, leaves)


def test_mixer_with_norms():
    inputs = differentiable(mixer_inputs())
    weights = [torch.rand(n, dtype=torch.float64).requires_grad_() for n in (3, 3, 5)]
    names = ('b_rms_weight', 'c_rms_weight', 'dt_rms_weight')
    own = dict(zip(names, weights, strict=True))
    y = true_mixer(inputs, norms=weights)
    expected = F.linear(y.transpose(1, 2), inputs['out_proj_weight'], inputs['out_proj_bias'])
    leaves = {k: v for k, v in {**inputs, **own}.items() if v is not None}
    assert_alike(interface.mamba_inner_fn(**inputs, **own), expected, leaves)


def test_mixers_refuse_what_they_do_not_know():
    inputs = mixer_inputs()
    with pytest.raises(TypeError, match='A must be real floating point, but is'):
        interface.mamba_inner_fn(**{**inputs, 'A': inputs['A'].to(torch.complex128)})
    with pytest.raises(ValueError, match=r'B and C must be \(E, N\), or None to be taken'):
        interface.mamba_inner_fn(**{**inputs, 'B': torch.ones(2, 3, 6)})


@pytest.mark.parametrize('activation', [None, 'silu', 'swish'])
def test_causal_conv1d(activation):
    x, weight, bias = torch.randn(2, 3, 5), torch.randn(3, 4), torch.randn(3)
    y = causal_conv1d.causal_conv1d_fn(x, weight, bias, activation=activation)
    true = F.conv1d(F.pad(x, (3, 0)), weight[:, None], bias, groups=3)
    true = true if activation is None else F.silu(true)
    torch.testing.assert_close(y, true)
    with pytest.raises(NotImplementedError, match='supports no packed sequences and no states'):
        causal_conv1d.causal_conv1d_fn(x, weight, return_final_states=True)
    with pytest.raises(ValueError, match="None, 'silu' or 'swish', but is 'relu'"):
        causal_conv1d.causal_conv1d_fn(x, weight, activation='relu')


@pytest.mark.parametrize('rms', [False, True])
@pytest.mark.parametrize('residual', [None, torch.float32, torch.float16])
@pytest.mark.parametrize('in_fp32', [False, True])
def test_norms(rms, residual, in_fp32):
    x, weight, bias = torch.randn(4, 6).half(), torch.rand(6), torch.randn(6)
    other = None if residual is None else torch.randn(4, 6).to(residual)
    function = norms.rms_norm_fn if rms else norms.layer_norm_fn
    settings = dict(prenorm=True, residual_in_fp32=in_fp32, eps=1e-3)
    y, total = function(x, weight, bias, other, **settings)
    exact = x.double() + (0 if other is None else other.double())
    centred = exact if rms else exact - exact.mean(-1, keepdim=True)
    true = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-3) * weight + bias
    kept = (torch.float32 if in_fp32 else x.dtype) if residual is None else residual
    assert y.dtype == x.dtype and total.dtype == kept
    assert naive.relative_error(y, true) < 1e-3 and naive.relative_error(total, exact) < 1e-3
    with pytest.raises(NotImplementedError, match='stand-in does not support dropout_p'):
        function(x, weight, bias, other, dropout_p=0.5)
    for second in (x, torch.zeros(1)):
        with pytest.raises(NotImplementedError, match='stand-in does not support x1'):
            function(x, weight, bias, other, x1=second)
    module = norms.RMSNorm(6)
    torch.testing.assert_close(module(x), norms.rms_norm_fn(x, module.weight, None, eps=1e-5))
