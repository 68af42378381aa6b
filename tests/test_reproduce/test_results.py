import dataclasses
from pathlib import Path

import pytest
from mmengine.config import Config

from mmv2m.engine.records import Record, config_digest
from mmv2m.reproduce.results import own_results
from mmv2m.reproduce.tables import Data, Metric, Row

TOP1 = Metric('top1', 'Top 1 Accuracy', 'Image Classification', 'accuracy/top1')
SHARE = Metric('share', 'share', 'Image Classification', 'share', factor=100, tta=True)
ROW = Row(
    *('Net', 'Net', 'net.py'),
    data=Data('Pictures', 'Image Classification', 10, (8, 8), (TOP1, SHARE)),
    size=(8, 8),
)
CFG = Config(
    dict(
        train_dataloader=dict(batch_size=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1)),
        auto_scale_lr=dict(base_batch_size=16),
    )
)
PATH = Path('net.py')


def record(top1=50.0, share=0.25, **changes):
    settings = dict(
        kind='training',
        config='net.py',
        config_digest=config_digest(CFG),
        options={'randomness.seed': 0, 'train_dataloader.batch_size': 16},
        commit=None,
        dirty=False,
        hardware='some',
        gpus=1,
        software={},
        metrics={'accuracy/top1': top1, 'tta/share': share},
        checkpoint='0' * 64,
        seed=0,
        global_batch=16,
        seconds=1,
        log_digest='0' * 64,
    )
    return Record(**{**settings, **changes})


def evaluation(**changes):
    nothing = dict(seed=None, global_batch=None, seconds=None, log_digest=None)
    return record(**{**nothing, 'kind': 'evaluation', 'options': {}, **changes})


def test_runs_make_a_mean_and_a_deviation():
    found = own_results(ROW, PATH, CFG, [record(50.0), record(52.0, 0.5), record(config='other')])
    top1, share = found.own['top1'], found.own['share']
    assert (top1.values, top1.mean, top1.trained) == ((50.0, 52.0), 51.0, True)
    assert top1.std == pytest.approx(2**0.5)
    assert share.values == (25.0, 50.0)
    assert found.left_out == ()
    assert own_results(ROW, PATH, CFG, [record()]).own['top1'].std is None
    assert own_results(ROW, PATH, CFG, []).own == {}


def test_trainings_go_before_evaluations():
    both = own_results(ROW, PATH, CFG, [evaluation(top1=60.0), record(50.0)])
    assert (both.own['top1'].values, both.own['top1'].trained) == ((50.0,), True)
    tested = own_results(ROW, PATH, CFG, [evaluation(top1=60.0, metrics={'accuracy/top1': 60.0})])
    assert (tested.own['top1'].values, tested.own['top1'].trained) == ((60.0,), False)
    assert 'share' not in tested.own


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(config_digest='1' * 64), 'an earlier version of the config'),
        (dict(options={'optim_wrapper.optimizer.lr': 2}), 'other settings (optim_wrapper.opt'),
        (dict(global_batch=64), 'a batch of 64 instead of 16'),
        (dict(options={'model.backbone.init_cfg.checkpoint': 'x'}), 'other settings (model.back'),
    ],
)
def test_other_runs_are_left_out_with_a_reason(changes, words):
    found = own_results(ROW, PATH, CFG, [record(**changes)])
    assert found.own == {} and words in found.left_out[0]


def test_rows_that_start_from_weights_need_some():
    row = dataclasses.replace(ROW, init='classifier.py')
    without = own_results(row, PATH, CFG, [record()])
    assert without.own == {} and 'without pretrained weights' in without.left_out[0]
    options = {'model.backbone.init_cfg.checkpoint': 'last.pth sha256:0'}
    assert own_results(row, PATH, CFG, [record(options=options)]).own['top1'].mean == 50.0
    assert own_results(row, PATH, CFG, [evaluation(top1=60.0)]).own['top1'].mean == 60.0
