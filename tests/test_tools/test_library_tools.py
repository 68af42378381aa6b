"""The task library's own tools, which mim runs, work with mmv2m's configs as well."""

import runpy
import sys
from pathlib import Path

import mmdet
import mmpretrain
import mmseg
from dense_data import assert_learned, make_camvid, make_nuclei, tiny_mask_rcnn, tiny_upernet

ROOT = Path(__file__).resolve().parents[2]
DEMO = str(ROOT / 'configs' / 'v2m-mini_digits.py')


def _run(library, name, *argv, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [name, *argv])
    tools = Path(library.__file__).parent / '.mim' / 'tools'
    runpy.run_path(str(tools / name), run_name='__main__')


def test_mmpretrains_tools_train_and_test_the_demo(monkeypatch):
    few = [
        'train_cfg.max_epochs=1',
        *(f'{split}_dataloader.dataset.indices=16' for split in ('train', 'val', 'test')),
    ]
    options = ['--work-dir', 'run', '--cfg-options', *few]
    _run(mmpretrain, 'train.py', DEMO, *options, monkeypatch=monkeypatch)
    assert Path('run/epoch_1.pth').exists() and Path('run/curves.png').exists()
    _run(mmpretrain, 'test.py', DEMO, 'run/epoch_1.pth', *options, monkeypatch=monkeypatch)
    assert Path('run/predictions.png').exists()


def test_mmdets_tools_train_and_test_mask_rcnn(monkeypatch):
    make_nuclei()
    config = tiny_mask_rcnn()
    few = ['--cfg-options', 'train_cfg.max_epochs=1']
    _run(mmdet, 'train.py', config, '--work-dir', 'run', *few, monkeypatch=monkeypatch)
    testing = [config, 'run/epoch_1.pth', '--work-dir', 'test', '--out', 'found.pkl']
    _run(mmdet, 'test.py', *testing, monkeypatch=monkeypatch)
    assert Path('found.pkl').exists()


def test_mmsegs_tools_train_and_test_upernet(monkeypatch):
    make_camvid()
    config = tiny_upernet('upernet_v2m-s-star')
    _run(mmseg, 'train.py', config, '--work-dir', 'run', monkeypatch=monkeypatch)
    assert_learned('run')
    testing = [config, 'run/iter_20.pth', '--work-dir', 'test', '--out', 'maps', '--tta']
    _run(mmseg, 'test.py', *testing, monkeypatch=monkeypatch)
    assert len(list(Path('maps').iterdir())) == 3
