import logging
from pathlib import Path

import pytest
from cifar_data import make_cifar10

from mmv2m.study.plan import load_study

ROOT = Path(__file__).resolve().parents[2]
MICRO = f"""
_base_ = '{ROOT}/configs/studies/v2m-t_cifar10.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=16, depths=(1, 0, 0, 0), state_dims=2),
        corners=%s, out_indices=0),
    head=dict(in_channels=16))
optim_wrapper = dict(_delete_=True, optimizer=dict(type='AdamW', lr=1e-3))
train_dataloader = dict(batch_size=4, num_workers=0)
val_dataloader = test_dataloader = dict(num_workers=0)
train_cfg = dict(max_epochs=2, val_interval=2)
auto_scale_lr = dict(base_batch_size=4)
"""
STUDY = """
data: CIFAR-10
train_images: 10
size: [32, 32]
metric: accuracy/top1
comparisons:
  corners:
    title: Corners
    arms: {both: both.py, one: one.py}
  again:
    title: One of them again
    arms: {one: one.py}
"""


@pytest.fixture(autouse=True)
def log_level():
    """The command keeps warnings out of its own log; other tests look for them."""
    log = logging.getLogger('mmv2m')
    before = log.level
    yield
    log.setLevel(before)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a study of two micro models, whose arms stand in two comparisons, and data."""
    monkeypatch.chdir(tmp_path)
    make_cifar10()
    Path('both.py').write_text(MICRO % "('UL', 'LR')")
    Path('one.py').write_text(MICRO % "('UL',)")
    Path('study.yml').write_text(STUDY)
    Path('docs').mkdir()
    Path('docs/study.md').write_text(
        'before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n'
    )
    return tmp_path


@pytest.fixture
def micro(place):
    return load_study(place / 'study.yml')
