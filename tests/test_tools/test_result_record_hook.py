"""ResultRecordHook in trainings of tools/train.py."""

import json
from pathlib import Path

import pytest
import torch
from tiny_digits import TINY_DIGITS

from mmv2m.engine.records import load_record
from mmv2m.engine.records.provenance import file_digest, log_digest

HOOK = "custom_hooks = [dict(type='ResultRecordHook', out_dir='records')]\n"


def _write(text):
    Path('tiny.py').write_text(text)
    return 'tiny.py'


def _records():
    return [load_record(path) for path in sorted(Path('records').glob('*.json'))]


def _seconds(checkpoint):
    """What a checkpoint says of how long the training has taken."""
    hub = torch.load(checkpoint, weights_only=False)['message_hub']
    return hub['runtime_info']['result_record_seconds']


def test_a_training_records_its_result_also_when_resumed(train):
    config = _write(TINY_DIGITS + HOOK)
    work_dir = Path('work_dirs/tiny')
    train([config, '--cfg-options', 'randomness.seed=5', 'train_cfg.max_epochs=1'])
    (first,) = _records()
    assert first.options == {'randomness.seed': 5, 'train_cfg.max_epochs': 1}
    before = _seconds(work_dir / 'epoch_1.pth')

    train([config, '--resume', '--cfg-options', 'randomness.seed=5'])
    last = next(record for record in _records() if record != first)
    assert (last.kind, last.seed, last.gpus, last.global_batch) == ('training', 5, 1, 8)
    assert last.options == {'randomness.seed': 5}
    assert (last.config, last.config_digest) == ('tiny.py', first.config_digest)
    assert last.checkpoint == file_digest(work_dir / 'epoch_2.pth')
    assert last.log_digest == log_digest(work_dir) != first.log_digest
    logged = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1].read_text().splitlines()[-1]
    value = json.loads(logged)['accuracy/top1']
    assert last.metrics == {'accuracy/top1': pytest.approx(value, abs=1e-3)}
    after = _seconds(work_dir / 'epoch_2.pth')
    assert after > before > 0
    assert last.seconds >= round(after, 1)


def test_nothing_is_recorded_where_no_validation_follows_the_last_step(train):
    train([_write(TINY_DIGITS)])
    train([_write(TINY_DIGITS + HOOK), '--resume'])
    logs = [log.read_text() for log in Path('work_dirs/tiny').glob('*/*.log')]
    assert any('ResultRecordHook: nothing recorded' in log for log in logs) and not _records()


def test_a_training_without_validation_is_refused_before_it_starts(train, capsys):
    config = _write(TINY_DIGITS + HOOK)
    with pytest.raises(SystemExit) as refused:
        train([config, '--no-validate'])
    assert refused.value.code == 2
    error = "error: ResultRecordHook records a validation's metrics: there is none"
    assert capsys.readouterr().err.splitlines()[-1] == error
    assert not list(Path('work_dirs/tiny').glob('*.pth'))


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ("default_hooks['checkpoint'] = None", 'the config needs default_hooks.checkpoint'),
        ("default_hooks['checkpoint'].update(save_last=False)", 'with save_last=True'),
        ("custom_hooks[0]['out_dir'] = 'tiny.py'", 'ResultRecordHook.out_dir cannot be made'),
    ],
)
def test_what_could_not_be_recorded_at_the_end_is_refused_before_it_starts(
    train, capsys, line, says
):
    config = _write(TINY_DIGITS + HOOK + line)
    with pytest.raises(SystemExit) as refused:
        train([config])
    assert refused.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path('work_dirs/tiny').glob('*.pth'))
