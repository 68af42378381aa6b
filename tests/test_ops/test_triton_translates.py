"""The Triton kernels as the compiler sees them, which the interpreter does not show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('triton')

TESTS = Path(__file__).resolve().parents[1]
KERNELS = TESTS.parent / 'ops/triton/kernels'


def test_all_kernels_are_translated_for_a_gpu():
    """Those that a launch may name, each by one at least."""
    paths = os.pathsep.join(map(str, (TESTS, TESTS.parent)))
    environment = {**os.environ, 'PYTHONPATH': paths, 'TRITON_INTERPRET': '0'}
    done = subprocess.run(
        [sys.executable, TESTS / 'translate_triton.py'],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sources = (path.read_text() for path in KERNELS.glob('*.py'))
    launched = {name for text in sources for name in re.findall(r'^def (\w+_kernel)\(', text, re.M)}
    assert launched == set(done.stdout.split())
