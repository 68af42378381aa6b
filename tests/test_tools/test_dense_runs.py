"""Whole pipelines of detection and segmentation, small: train, evaluate, test, augment."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dense_data import (
    SIZES,
    assert_learned,
    make_camvid,
    make_nuclei,
    tiny_mask_rcnn,
    tiny_upernet,
)
from mmengine.fileio import load
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from PIL import Image
from small_models import make

from mmv2m.engine.cli import parse_train_args
from mmv2m.engine.config import load_config
from mmv2m.engine.preflight.model import check_model


@pytest.mark.parametrize('name', ['nuclei', 'upernet_v2m-t', 'upernet_v2m-s-star'])
def test_every_parameter_has_a_gradient(name):
    make_nuclei()
    make_camvid()
    cfg = load_config(tiny_mask_rcnn() if name == 'nuclei' else tiny_upernet(name))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model).train()
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    data = model.data_preprocessor(next(iter(loader)), training=True)
    total, _ = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_documented_options_load_a_classifier():
    classifier = make('pyramid').state_dict()
    torch.save(dict(state_dict={f'backbone.{key}': classifier[key] for key in classifier}), 'w.pth')
    init = 'model.backbone.init_cfg'
    options = [f'{init}.type=Pretrained', f'{init}.prefix=backbone.', f'{init}.checkpoint=w.pth']
    args = parse_train_args([tiny_mask_rcnn(), '--cfg-options', *options])
    cfg = load_config(args.config, args.cfg_options)
    check_model(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.init_weights()
    loaded = model.backbone.state_dict()
    assert all(torch.equal(loaded[key], classifier[key]) for key in classifier)


def test_mask_rcnn(train, test, fails):
    make_nuclei()
    config = tiny_mask_rcnn()
    train([config, '--work-dir', 'run'])
    assert_learned('run')

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


def test_upernet(train, test):
    make_camvid()
    config = tiny_upernet('upernet_v2m-t')
    train([config, '--work-dir', 'run'])
    assert_learned('run')

    argv = [config, 'run/iter_20.pth', '--work-dir', 'run', '--out', 'maps']
    single = test(argv)
    for i, size in enumerate(SIZES):
        labels = np.asarray(Image.open(f'maps/{i}.png'))
        assert labels.shape == size
        assert labels.max() < 11
    several = test([*argv[:-1], 'm.yaml', '--out-item', 'metrics', '--tta'])
    assert yaml.safe_load(Path('m.yaml').read_text()) == pytest.approx(several)
    assert 0 < single['mIoU'] <= 100 and 0 < several['mIoU'] <= 100
