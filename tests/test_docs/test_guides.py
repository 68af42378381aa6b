"""Every guide of docs/guides/ does what it says, in a copy of the clone.

A block is a new file or goes behind the one line that begins with some text, as the comment in
front of it says; or it is a command, which has to succeed.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted(ROOT.glob('docs/guides/*.md'))
BLOCK = re.compile(
    r'(?:^<!-- (?:new file: (?P<new>\S+)|in (?P<old>\S+), behind: (?P<line>.+?)) -->\n)?'
    r'^```(?P<language>\w+)\n(?P<code>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
FOLDERS = ('ops', 'mmv2m', 'tests', 'configs')


@pytest.fixture
def clone(tmp_path):
    for name in FOLDERS:
        ignored = shutil.ignore_patterns('__pycache__')
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    return tmp_path


def insert(path, start, code):
    lines = path.read_text().splitlines(keepends=True)
    (place,) = [i for i, line in enumerate(lines) if line.startswith(start)]
    path.write_text(''.join([*lines[: place + 1], code, *lines[place + 1 :]]))


def run(command, clone):
    program, *arguments = shlex.split(command)
    assert program == 'python'
    environment = {**os.environ, 'PYTHONPATH': str(clone), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, *arguments, '-p', 'no:cacheprovider'],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'\d+ passed', done.stdout)


def test_there_are_guides():
    assert {path.stem for path in GUIDES} >= {
        *('add_a_backbone', 'add_a_scan_order', 'add_a_kernel', 'add_a_backend')
    }


@pytest.mark.parametrize('guide', GUIDES, ids=lambda path: path.stem)
def test_guide(guide, clone):
    commands = 0
    for block in BLOCK.finditer(guide.read_text()):
        if block['new']:
            assert not (clone / block['new']).exists()
            (clone / block['new']).write_text(block['code'])
        elif block['old']:
            insert(clone / block['old'], block['line'], block['code'])
        else:
            assert block['language'] == 'bash'
            for command in block['code'].splitlines():
                run(command, clone)
                commands += 1
    assert commands
