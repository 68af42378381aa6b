"""Official models on our stand-in for mamba_ssm, beside the same models on a scan in plain PyTorch.

Needs clones of their repositories: folders ``Vim``, ``VMamba`` and ``MambaVision`` in
``$MMV2M_CLONES``.
"""

import importlib
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import naive
import pytest
import torch

from mmv2m.ops import mamba_ssm_stand_in

BENCHMARKS = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks'


@pytest.fixture
def official(monkeypatch):
    """official_code, and nothing of what it imports afterwards."""
    pytest.importorskip('timm')
    pytest.importorskip('einops')
    before = dict(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(mamba_ssm_stand_in, '_OURS', {})
    # VMamba's cross scan names the GPU that it runs on, even on a CPU.
    monkeypatch.setattr(torch.cuda, 'device', lambda device: nullcontext())
    yield importlib.import_module('official_code')
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)


def clone_of(name):
    folder = os.environ.get('MMV2M_CLONES')
    if folder is None or not (Path(folder) / name).exists():
        pytest.skip(f'needs a clone of the official {name} in $MMV2M_CLONES')
    return Path(folder) / name


def results(model, size):
    """Logits, and gradients by name."""
    torch.manual_seed(1)
    model.eval().zero_grad()
    logits = model(torch.randn(2, 3, size, size))
    (logits * torch.linspace(-1, 1, logits.numel()).view(logits.shape)).sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def scattered(model):
    """With every parameter moved, so that each counts."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def assert_alike(found, expected):
    assert naive.relative_error(found[0], expected[0]) < 1e-5
    for name, true in expected[1].items():
        assert naive.relative_error(found[1][name], true) < 1e-3, name


def test_mamba_vision(official, monkeypatch):
    model = scattered(official.mamba_vision(clone_of('MambaVision'), 'T', stand_in=True))
    mine = results(model, 112)
    module = sys.modules['official_mamba_vision.mamba_vision']
    plain = importlib.import_module('scans_in_torch').selective_scan_fn
    assert module.selective_scan_fn.__module__ == 'mmv2m.ops.selective_scan'
    monkeypatch.setattr(module, 'selective_scan_fn', plain)
    assert_alike(mine, results(model, 112))


def test_vim(official, monkeypatch):
    model = scattered(official.vim(clone_of('Vim'), 'tiny', stand_in=True, img_size=64))
    mine = results(model, 64)
    module = sys.modules['mamba_ssm.modules.mamba_simple']
    plain = importlib.import_module('scans_in_torch').mamba_inner_fn_no_out_proj
    name = 'mamba_inner_fn_no_out_proj'
    assert getattr(module, name).__module__ == 'mmv2m.ops.mamba_ssm_stand_in.interface'
    monkeypatch.setattr(module, name, plain)
    assert_alike(mine, results(model, 64))


def test_vmamba(official, monkeypatch):
    model = scattered(official.vmamba(clone_of('VMamba'), 'tiny', scan='stand-in'))
    calls = []
    scans = sys.modules['official_vmamba.csms6s']
    forward = scans.selective_scan_cuda_oflex.fwd
    monkeypatch.setattr(
        scans.selective_scan_cuda_oflex, 'fwd', lambda *a: calls.append(1) or forward(*a)
    )
    mine = results(model, 64)
    assert len(calls) == 14  # blocks
    monkeypatch.setattr(scans, 'WITH_SELECTIVESCAN_OFLEX', False)
    monkeypatch.setattr(scans, 'WITH_SELECTIVESCAN_MAMBA', False)
    assert_alike(mine, results(model, 64))
    assert len(calls) == 14
