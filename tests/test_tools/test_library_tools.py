"""The task library's own tools, which mim runs, work with mmv2m's configs as well."""

import runpy
import sys
from pathlib import Path

import mmpretrain

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
DEMO = str(ROOT / 'configs' / 'v2m-mini_digits.py')


def _run(name, *argv, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [name, *argv])
    runpy.run_path(str(TOOLS / name), run_name='__main__')


def test_mmpretrains_tools_train_and_test_the_demo(monkeypatch):
    few = [
        'train_cfg.max_epochs=1',
        *(f'{split}_dataloader.dataset.indices=16' for split in ('train', 'val', 'test')),
    ]
    options = ['--work-dir', 'run', '--cfg-options', *few]
    _run('train.py', DEMO, *options, monkeypatch=monkeypatch)
    assert Path('run/epoch_1.pth').exists() and Path('run/curves.png').exists()
    _run('test.py', DEMO, 'run/epoch_1.pth', *options, monkeypatch=monkeypatch)
    assert Path('run/predictions.png').exists()
