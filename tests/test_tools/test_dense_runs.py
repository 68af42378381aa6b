"""Whole pipelines of detection and segmentation, small: train, evaluate, test, augment."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_data import SIZES, make_camvid, make_nuclei, tiny_mask_rcnn, tiny_upernet
from mmengine.fileio import load
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from PIL import Image

from mmv2m.engine.config import load_config


def losses():
    """The losses of a run in the folder run, one an iteration."""
    (file,) = Path('run').glob('*/vis_data/scalars.json')
    return [entry['loss'] for entry in map(json.loads, file.open()) if 'loss' in entry]


def assert_learns(config, train):
    train([config, '--work-dir', 'run'])
    found = losses()
    assert len(found) == 20
    assert all(map(math.isfinite, found))
    assert sum(found[-5:]) < 0.8 * sum(found[:5])


def assert_every_parameter_learns(config):
    cfg = load_config(config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).train()
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    data = model.data_preprocessor(next(iter(loader)), training=True)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_mask_rcnn(train, test, fails):
    make_nuclei()
    config = tiny_mask_rcnn()
    assert_learns(config, train)
    assert_every_parameter_learns(config)

    argv = [config, 'run/epoch_20.pth', '--work-dir', 'run', '--out', 'predictions.pkl']
    metrics = test(argv)
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)
    predictions = load('predictions.pkl')
    assert [tuple(p['ori_shape']) for p in predictions] == list(SIZES)
    for prediction, size in zip(predictions, SIZES, strict=True):
        found = prediction['pred_instances']
        number = len(found['scores'])
        assert 0 < number <= 5
        assert found['bboxes'].shape == (number, 4)
        assert (found['labels'] == 0).all()
        assert [mask['size'] for mask in found['masks']] == [list(size)] * number
    assert 'merges boxes only' in fails(test, *argv, '--tta')


@pytest.mark.parametrize('name', ['upernet_v2m-t', 'upernet_v2m-s-star'])
def test_upernet(train, test, name):
    make_camvid()
    config = tiny_upernet(name)
    assert_learns(config, train)
    assert_every_parameter_learns(config)

    argv = [config, 'run/iter_20.pth', '--work-dir', 'run', '--out', 'maps']
    single = test(argv)
    for i, size in enumerate(SIZES):
        labels = np.asarray(Image.open(f'maps/{i}.png'))
        assert labels.shape == size
        assert labels.max() < 11
    several = test([*argv, '--tta'])
    assert 0 < single['mIoU'] <= 100 and 0 < several['mIoU'] <= 100
