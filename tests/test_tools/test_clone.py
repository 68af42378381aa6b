"""The tools run the code of the clone that they belong to, and name its configs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
SCRIPTS = [path for path in sorted(TOOLS.rglob('*.py')) if '__main__' in path.read_text()]

# All in one process, which imports PyTorch once; what each of them adds is taken away again.
IMPORT_ALL = """
import runpy, sys
from pathlib import Path
other, *scripts = sys.argv[1:]
path = sys.path[1:]
for script in map(Path, scripts):
    sys.path[:] = [str(script.parent), other, *path]
    sys.modules.pop('mmv2m', None)
    for neighbour in script.parent.glob('*.py'):
        sys.modules.pop(neighbour.stem, None)
    try:
        runpy.run_path(str(script))
    except Exception as error:
        print('FAILED', script.stem, error)
"""


def test_the_clone_comes_first(tmp_path):
    pytest.importorskip('triton')
    pytest.importorskip('timm')
    (tmp_path / 'mmv2m').mkdir()
    (tmp_path / 'mmv2m' / '__init__.py').write_text('raise RuntimeError("another mmv2m")')
    done = subprocess.run(
        [sys.executable, '-c', IMPORT_ALL, str(tmp_path), *map(str, SCRIPTS)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(SCRIPTS) > 15
    assert [line for line in done.stdout.splitlines() if line.startswith('FAILED')] == []


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.stem)
def test_configs_that_are_named_exist(script):
    named = re.findall(r'configs/[\w/.-]+\.py', script.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
