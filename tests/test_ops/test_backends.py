import logging
from types import SimpleNamespace

import pytest
import torch

from mmv2m.ops import BACKENDS, can_run, choose_backend, directional_scan
from mmv2m.ops.cpu import build

X = torch.zeros(1, 2, 2, 1)
CPU = 'reference' if build.refusal() else 'cpu'
"""What ``'auto'`` takes here: without a C++ compiler, the reference."""


@pytest.fixture
def picky():
    """A backend in front of the others that runs on float64 only, and doubles its result."""
    others = dict(BACKENDS)
    backend = SimpleNamespace(
        DEVICES=None,
        refusal=lambda x: None if x.dtype == torch.float64 else 'it takes float64 only',
        scan_forward=lambda *args: 2 * others['reference'].scan_forward(*args),
    )
    # The order counts, and the dict is shared.
    BACKENDS.clear()
    BACKENDS.update(picky=backend, **others)
    yield
    BACKENDS.clear()
    BACKENDS.update(others)


def test_reference_runs_everywhere():
    assert choose_backend('auto', X.double()) == 'reference'
    assert can_run('reference', X.half())


@pytest.mark.usefixtures('picky')
def test_auto_takes_the_first_that_can_run():
    assert choose_backend('auto', X.double()) == 'picky'
    assert choose_backend('auto', X) == CPU
    assert choose_backend('auto', X.half()) == 'reference'


@pytest.mark.usefixtures('picky')
def test_the_operator_runs_on_the_backend_asked_for():
    x, A = torch.rand(1, 2, 3, 1, dtype=torch.float64), -torch.ones(1, 1)
    doubled = directional_scan(x, x, A, backend='picky')
    assert torch.equal(doubled, 2 * directional_scan(x, x, A, backend='reference'))


@pytest.mark.usefixtures('picky')
def test_a_backend_that_cannot_run_says_why():
    assert not can_run('picky', X)
    with pytest.raises(RuntimeError, match="'picky' cannot run here: it takes float64 only"):
        choose_backend('picky', X)


def test_unknown_backend():
    with pytest.raises(
        ValueError, match="one of auto, cuda, triton, mamba_ssm, cpu, reference, but got 'opencl'"
    ):
        can_run('opencl', X)


def test_auto_leaves_the_interpreter_alone_and_says_so_once(caplog, monkeypatch):
    caplog.set_level(logging.WARNING, 'mmv2m')  # whatever a tool made of it earlier
    monkeypatch.setattr('mmv2m.ops.backends._TOLD', set())
    assert choose_backend('auto', X.to('meta')) == 'reference'
    assert not caplog.records  # shapes alone are not slow
    for _ in range(2):
        assert choose_backend('auto', X.double()) == 'reference'
    assert [record.message for record in caplog.records] == [
        "the scans run on the slower backend 'reference' "
        '(cpu: its kernels have float32 and bfloat16, but the input is torch.float64)'
    ]


def test_triton_refuses_float64():
    with pytest.raises(RuntimeError, match="'triton' cannot run here: its kernels have no float64"):
        choose_backend('triton', X.double())


def test_triton_without_triton(monkeypatch):
    monkeypatch.setattr('mmv2m.ops.backends.installed.HAS_TRITON', False)
    with pytest.raises(RuntimeError, match='Triton is not installed: pip install triton'):
        choose_backend('triton', X)


def test_cuda_without_nvidia_gpu():
    with pytest.raises(RuntimeError, match='the input is on cpu, but its kernels need an NVIDIA'):
        choose_backend('cuda', X)


def test_triton_without_gpu(monkeypatch):
    monkeypatch.setattr('mmv2m.ops.backends.installed.INTERPRETED', False)
    with pytest.raises(RuntimeError, match='the input is on cpu, but its kernels need a GPU'):
        choose_backend('triton', X)
