import dataclasses
import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmv2m.engine.errors import UserError
from mmv2m.engine.records import (
    Record,
    changed_settings,
    config_digest,
    config_id,
    evaluation_record,
    load_record,
    load_records,
    log_digest,
    save_record,
    training_record,
)
from mmv2m.engine.records.provenance import ROOT, file_digest, repository_state

TRAINING = dict(
    kind='training',
    config='configs/v2m-mini_digits.py',
    config_digest='0' * 64,
    options={'randomness.seed': 3},
    commit='a' * 40,
    dirty=False,
    hardware='1 x CPU',
    gpus=1,
    software=dict(torch='2.11.0'),
    metrics={'accuracy/top1': 98.5},
    checkpoint='b' * 64,
    seed=3,
    global_batch=32,
    seconds=1.5,
    log_digest='c' * 64,
)
EVALUATION = dict(
    TRAINING, kind='evaluation', seed=None, global_batch=None, seconds=None, log_digest=None
)


@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        (TRAINING, 'v2m-mini_digits_seed3_cccccccc.json'),
        (EVALUATION, 'v2m-mini_digits_evaluation_bbbbbbbb.json'),
        (dict(EVALUATION, commit=None), 'v2m-mini_digits_evaluation_bbbbbbbb.json'),
    ],
)
def test_records_round_trip(settings, name, tmp_path):
    record = Record(**settings)
    path = save_record(record, tmp_path / 'new')
    assert path.name == name
    assert load_record(path) == record
    assert load_records(tmp_path / 'new') == [record]
    assert load_records(tmp_path / 'none') == []


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (dict(schema=2), 'schema must be 1, but is 2'),
        (dict(kind='guess'), 'kind must be one of training, evaluation'),
        (dict(config=3), 'config must be a str, but is 3'),
        (dict(config_digest='0'), 'config_digest must be 64 hexadecimal digits'),
        (dict(options=[]), 'options must be a dict'),
        (dict(commit='main'), 'commit must be 40 hexadecimal digits'),
        (dict(dirty='no'), 'dirty must be a bool'),
        (dict(gpus=0), 'gpus must be finite and at least 1'),
        (dict(gpus=True), 'gpus must be a number'),
        (dict(metrics={}), 'metrics must not be empty'),
        (dict(metrics={'top1': float('nan')}), 'metrics.top1 must be finite'),
        (dict(metrics={'top1': '98'}), "metrics.top1 must be a number, but is '98'"),
        (dict(checkpoint=None), 'checkpoint must be 64'),
        (dict(seed=None), 'seed must be a number, but is None'),
        (dict(seed=-1), 'seed must be finite and at least 0'),
        (dict(global_batch=1.5), 'global_batch must be a number'),
        (dict(seconds=float('inf')), 'seconds must be finite'),
        (dict(log_digest=None), 'log_digest must be 64'),
        (dict(EVALUATION, seed=0), 'belong to trainings only'),
    ],
)
def test_impossible_records_are_refused(changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Record(**{**TRAINING, **changes})


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'cannot be read'),
        ('[]', 'must hold one record, but holds list'),
        (json.dumps(dict(dataclasses.asdict(Record(**TRAINING)), seeds=1)), "mean 'seed'"),
        (json.dumps({k: v for k, v in TRAINING.items() if k != 'seed'}), 'lacks seed, schema'),
        (json.dumps(dataclasses.asdict(Record(**TRAINING)) | dict(gpus=0)), 'gpus must be'),
        (json.dumps(dataclasses.asdict(Record(**TRAINING))), 'name is v2m-mini_digits_seed3'),
    ],
)
def test_files_that_are_no_records_are_named(text, words, tmp_path):
    path = tmp_path / 'some.json'
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        load_record(path)
    assert str(path) in str(caught.value)


CONFIG = """
model = dict(type='Net', arch=dict(widths=[1, 2], names=[]), init=None)
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dict(data_root='here', split='train'))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(logger=dict(interval=10))
work_dir = 'some'
"""


def load(folder, text=CONFIG, options=None):
    path = folder / 'net.py'
    path.write_text(text)
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    return cfg


@pytest.mark.parametrize(
    ('option', 'value', 'counts'),
    [
        ('model.arch.widths', [1, 3], True),
        ('model.arch.names', ['a'], True),
        ('model.init', 0, True),
        ('optim_wrapper.optimizer.lr', 0.2, True),
        ('custom_hooks', [dict(type='EMAHook')], True),
        ('optim_wrapper.constructor', 'mmv2m.GroupedOptimWrapperConstructor', False),
        ('optim_wrapper.constructor', 'mmv2m.LayerDecayOptimWrapperConstructor', True),
        ('train_dataloader.batch_size', 8, True),
        ('train_dataloader.num_workers', 0, False),
        ('train_dataloader.dataset.data_root', 'there', False),
        ('train_dataloader.collate_fn', dict(type='default_collate'), False),
        ('default_hooks.logger.interval', 1, False),
        ('model.scan_backend', 'triton', False),
        ('work_dir', 'other', False),
    ],
)
def test_only_what_changes_a_result_is_in_digest_and_changes(option, value, counts, tmp_path):
    cfg, changed = load(tmp_path), load(tmp_path, options={option: value})
    assert (config_digest(cfg) != config_digest(changed)) == counts
    assert bool(changed_settings(cfg, changed)) == counts


def test_changes_are_those_of_the_run(tmp_path):
    weights = tmp_path / 'weights.pth'
    weights.write_bytes(b'weights')
    options = {'model.arch.widths': [1, 3], 'model.weights': str(weights), 'model.init': 'file'}
    cfg, run = load(tmp_path), load(tmp_path, options=options)
    run.pop('optim_wrapper')
    assert changed_settings(cfg, run) == {
        'model.arch.widths.1': 3,
        'model.init': 'file',
        'model.weights': f'weights.pth sha256:{file_digest(weights)[:16]}',
        'optim_wrapper.optimizer.lr': None,
        'optim_wrapper.optimizer.type': None,
    }


def test_logs_of_resumed_runs_belong_together(tmp_path):
    with pytest.raises(FileNotFoundError, match='no log'):
        log_digest(tmp_path)
    for name, text in (('a', 'old'), ('b', 'new')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'run.log').write_text(text)
    logs = log_digest(tmp_path)
    scalars = tmp_path / 'b' / 'vis_data' / 'scalars.json'
    scalars.parent.mkdir()
    scalars.write_text('oldnew')
    assert log_digest(tmp_path) == logs  # SHA-256 of the same bytes
    scalars.write_text('other')
    assert log_digest(tmp_path) != logs


def test_configs_are_called_by_their_path_in_the_repository(tmp_path):
    assert config_id(ROOT / 'configs' / 'v2m-mini_digits.py') == 'configs/v2m-mini_digits.py'
    assert config_id(tmp_path / 'mine.py') == 'mine.py'


def test_state_of_the_repository():
    commit, dirty = repository_state()
    if not (ROOT / '.git').exists():
        assert (commit, dirty) == (None, False)
    else:
        assert len(commit) == 40 and isinstance(dirty, bool)


def test_records_are_made_of_what_has_run(tmp_path):
    cfg = load(tmp_path, options={'train_dataloader.batch_size': 8, 'randomness.seed': 1})
    checkpoint = tmp_path / 'last.pth'
    checkpoint.write_bytes(b'weights')
    evaluated = evaluation_record(cfg, dict(mIoU=40.12345678), checkpoint, gpus=2)
    assert (evaluated.metrics, evaluated.gpus) == (dict(mIoU=40.1235), 2)
    assert evaluated.checkpoint == file_digest(checkpoint)
    assert evaluated.options == {'randomness.seed': 1, 'train_dataloader.batch_size': 8}
    assert evaluated.config_digest == config_digest(load(tmp_path))

    (tmp_path / 'log').mkdir()
    (tmp_path / 'log' / 'run.log').write_text('loss')
    cfg.optim_wrapper.accumulative_counts = 2
    trained = training_record(
        cfg, dict(mIoU=1), checkpoint, work_dir=tmp_path, seed=1, gpus=4, seconds=2.0
    )
    assert (trained.global_batch, trained.seed, trained.seconds) == (64, 1, 2.0)
    assert trained.software['mmv2m'] and Path(save_record(trained, tmp_path)).exists()
