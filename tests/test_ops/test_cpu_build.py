"""How the CPU's kernels are compiled, and what happens where they cannot be."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmv2m.ops import choose_backend, directional_scan
from mmv2m.ops.cpu import build

X = torch.zeros(1, 2, 2, 1)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """An empty cache, and kernels that nobody has loaded."""
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(tmp_path))
    build._load.cache_clear()
    yield tmp_path
    build._load.cache_clear()


def test_without_a_compiler_the_reference_runs_and_says_why(fresh, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, 'mmv2m')
    monkeypatch.setattr('mmv2m.ops.backends._TOLD', set())
    monkeypatch.setenv('PATH', str(fresh))
    monkeypatch.delenv('CXX', raising=False)
    for _ in range(2):
        assert choose_backend('auto', X) == 'reference'
    assert len(caplog.records) == 1
    assert "cpu: there is no C++ compiler 'c++': install g++, or set $CXX" in caplog.text
    with pytest.raises(RuntimeError, match=r"'cpu' cannot run here: there is no C\+\+ compiler"):
        directional_scan(X, X, torch.zeros(1, 1), backend='cpu')


def test_a_compiler_that_fails_is_quoted(fresh, monkeypatch):
    compiler = fresh / 'broken'
    printed = 'first\na.h:1: fatal error: no such file'
    compiler.write_text(f'#!/bin/sh\necho "{printed}" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv('CXX', str(compiler))
    reason = build.refusal()
    assert 'do not compile with' in reason and 'a.h:1: fatal error: no such file' in reason
    assert not list(fresh.glob('*.so'))


def test_a_compiler_with_something_in_front(fresh, monkeypatch):
    monkeypatch.setenv('CXX', 'env true')
    assert 'cannot be kept in $MMV2M_CACHE_DIR' in build.refusal()  # it has made no library
    monkeypatch.setenv('CXX', 'env false')
    build._load.cache_clear()
    assert 'do not compile with env false' in build.refusal()


def test_an_empty_variable_is_as_good_as_none(fresh, monkeypatch):
    monkeypatch.setenv('CXX', '')
    monkeypatch.setenv('PATH', str(fresh))
    assert "no C++ compiler 'c++'" in build.refusal()
    monkeypatch.setenv('MMV2M_CACHE_DIR', '')
    assert build.cache_folder() == Path('~/.cache/mmv2m').expanduser()


def test_a_cache_that_is_no_folder(fresh, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, 'mmv2m')
    (fresh / 'file').touch()
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(fresh / 'file'))
    reason = build.refusal()
    assert 'cannot be kept in $MMV2M_CACHE_DIR' in reason and str(fresh / 'file') in reason
    assert not caplog.records  # nothing is compiled, and nothing says so


def test_a_compiled_library_is_taken_as_it_is(fresh, monkeypatch):
    loaded, compiled = [], []
    monkeypatch.setattr(torch.ops, 'load_library', loaded.append)
    monkeypatch.setattr(build, '_run', lambda *args: compiled.append(args) or _make(args))
    assert build.refusal() is None
    build._load.cache_clear()
    assert build.refusal() is None
    assert len(compiled) == 2  # the kernels, and the library of them
    (library,) = fresh.glob('cpu-*.so')
    assert loaded == [library, library]


def _make(arguments):
    place = arguments[arguments.index('-o') + 1]
    with open(place, 'w') as file:
        file.write('made')


def test_other_kernels_have_another_name(fresh, monkeypatch):
    monkeypatch.setattr(build, '_run', lambda *args: _make(args))
    first = build._find_or_compile()
    monkeypatch.setattr(build, 'KERNELS', fresh / 'kernels')
    shutil.copytree(os.path.dirname(build.__file__) + '/kernels', build.KERNELS)
    assert build._find_or_compile() == first
    (build.KERNELS / 'two.h').write_text('other')
    assert build._find_or_compile() != first


@pytest.mark.skipif(build.refusal() is not None, reason='there is no C++ compiler')
def test_kernels_run_on_the_threads_of_pytorch():
    if not os.path.isdir('/proc/self/task'):
        pytest.skip('needs /proc')
    done = subprocess.run([sys.executable, '-c', COUNTING], capture_output=True, text=True)
    at_first, after_scan, after_pytorch, libraries = map(int, done.stdout.split())
    assert after_scan == at_first + 2  # three threads run
    assert after_pytorch == after_scan  # and PyTorch's are the same
    assert libraries == 1


COUNTING = """
import os, torch
from mmv2m.ops import choose_backend, directional_scan
torch.set_num_threads(3)
x, A = torch.empty(3, 64, 64, 64), torch.zeros(64, 4)  # not filled: PyTorch would start threads
choose_backend('cpu', x)
def count(): return len(os.listdir('/proc/self/task'))
counts = [count()]
directional_scan(x, x, A, backend='cpu')
counts.append(count())
torch.ones(3000, 3000).exp()
counts.append(count())
libraries = {line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line}
print(*counts, len(libraries))
"""
