"""The mamba_ssm backend with a stand-in for the package's scan, which is for GPUs only."""

import sys
from types import ModuleType

import naive
import pytest
import torch
import torch.nn.functional as F
from scan_inputs import make_inputs

from mmv2m.ops import DIRECTIONS, can_run
from mmv2m.ops.backends import mamba_ssm as mamba_ssm_backend
from mmv2m.ops.backends import reference as reference_kernels


def selective_scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """What mamba_ssm documents: (batch, E, L) maps; B and C (E, N), or (batch, N, L)."""
    assert u.is_contiguous() and delta.is_contiguous()
    delta = delta if delta_bias is None else delta + delta_bias[:, None]
    delta = F.softplus(delta) if delta_softplus else delta
    B, C = (p[None] if p.dim() == 2 else p[:, None] for p in (B, C))
    state, outputs = u.new_zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[-1]):
        B_t, C_t = (p if p.dim() == 3 else p[..., t] for p in (B, C))
        drive = (delta[..., t] * u[..., t])[..., None]
        state = torch.exp(delta[..., t, None] * A) * state + drive * B_t
        outputs.append((state * C_t).sum(-1))
    y = torch.stack(outputs, -1)
    y = y if D is None else y + D[:, None] * u
    return y if z is None else y * F.silu(z)


@pytest.fixture(autouse=True)
def package(monkeypatch):
    module = ModuleType('mamba_ssm.ops.selective_scan_interface')
    module.selective_scan_fn = selective_scan
    for name in ('mamba_ssm', 'mamba_ssm.ops'):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize(('B', 'C'), [('token', None), (None, 'constant'), ('constant', 'token')])
def test_agrees_with_the_reference(direction, B, C):
    inputs = make_inputs(B=B, C=C)
    arguments = (*inputs.values(), direction)
    truth = reference_kernels.scan_forward(*arguments)
    assert naive.relative_error(mamba_ssm_backend.scan_forward(*arguments), truth) < 1e-12
    grads = mamba_ssm_backend.scan_backward(torch.ones_like(truth), *arguments)
    truths = reference_kernels.scan_backward(torch.ones_like(truth), *arguments)
    for grad, true in zip(grads, truths, strict=True):
        assert (grad is None) == (true is None)
        assert grad is None or naive.relative_error(grad, true) < 1e-12


@pytest.mark.parametrize(
    ('installed', 'dtype', 'words'),
    [
        (False, torch.float32, 'mamba_ssm is not installed: pip install mamba-ssm'),
        (True, torch.float64, 'its scan has no float64'),
        (True, torch.float32, 'the input is on cpu, but its scan needs a GPU'),
    ],
)
def test_refusals(monkeypatch, installed, dtype, words):
    monkeypatch.setattr('mmv2m.ops.backends.installed.HAS_MAMBA_SSM', installed)
    x = torch.zeros(1, 2, 2, 1, dtype=dtype)
    assert not can_run('mamba_ssm', x)
    with pytest.raises(RuntimeError, match=words):
        can_run('mamba_ssm', x, raise_error=True)
