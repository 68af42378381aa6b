from dataclasses import replace

import pytest
import torch

from mmv2m.ops import BACKENDS, can_run, choose_backend, directional_scan

X = torch.zeros(1, 2, 2, 1)


@pytest.fixture
def picky(monkeypatch):
    """A backend in front of the others that runs on float64 only, and doubles its result."""
    backend = replace(
        BACKENDS['reference'],
        refusal=lambda x: None if x.dtype == torch.float64 else 'it takes float64 only',
        scan_forward=lambda *args: 2 * BACKENDS['reference'].scan_forward(*args),
    )
    others = dict(BACKENDS)
    monkeypatch.setitem(BACKENDS, 'picky', backend)
    for name in others:
        monkeypatch.delitem(BACKENDS, name)
    for name, other in others.items():
        monkeypatch.setitem(BACKENDS, name, other)


def test_reference_runs_everywhere():
    assert choose_backend('auto', X) == 'reference'
    assert can_run('reference', X.half())


@pytest.mark.usefixtures('picky')
def test_auto_takes_the_first_that_can_run():
    assert choose_backend('auto', X.double()) == 'picky'
    assert choose_backend('auto', X) == 'reference'


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
    with pytest.raises(ValueError, match="one of auto, reference, but got 'opencl'"):
        can_run('opencl', X)
