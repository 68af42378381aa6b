"""Training steps on made-up data, on the CPU: each library's losses come out and move weights."""

from pathlib import Path

import pytest
import torch
from dense_data import tiny_mask_rcnn, tiny_upernet
from mmengine.config import Config
from tiny_digits import TINY_DIGITS

from mmv2m.engine.config import load_config
from mmv2m.reproduce.train_step import Throughput


def digits():
    Path('tiny.py').write_text(TINY_DIGITS)
    return 'tiny.py'


@pytest.mark.parametrize(
    ('make', 'size'),
    [
        (digits, (8, 8)),
        (lambda: tiny_upernet('upernet_v2m-s-star'), (64, 96)),
        (tiny_mask_rcnn, (64, 96)),
    ],
    ids=['mmpretrain', 'mmseg', 'mmdet'],
)
def test_throughput(make, size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('mmv2m.reproduce.train_step.WARM_UP_STEPS', 1)
    monkeypatch.setattr('mmv2m.reproduce.train_step.LEAST_STEPS', 2)
    timed = Throughput(load_config(make()), size, 'cpu', seconds=0)
    before = [p.clone() for p in timed.model.parameters() if p.requires_grad]
    speed = timed.measure(2)
    assert 0 < speed < float('inf')
    after = [p for p in timed.model.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.isfinite(p).all() for p in after)


def test_a_library_without_made_up_labels():
    from mmv2m.reproduce.made_batch import make_batch

    with pytest.raises(KeyError):
        make_batch(Config(dict(default_scope='mmpose')), (8, 8), 1, 'cpu')
