"""tools/reproduce.py from end to end, on a table of its own with a tiny config."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from runners import run_tool
from tiny_digits import TINY_DIGITS

from mmv2m.engine.records import load_records

STOPPER = """
import os
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Stopper(Hook):
    def before_train_epoch(self, runner):
        if runner.epoch == 1 and Path('stop').exists():
            os._exit(3)
"""
PIECES = dict(
    families=dict(V2M=dict(kind='SSM', title='V2M', url='https://arxiv.org/abs/2410.10382')),
    data=dict(
        Digits=dict(
            task='Image Classification',
            train_images=16,
            size=[8, 8],
            cpu=True,
            metrics=dict(
                top1=dict(label='Top 1 Accuracy', logged='accuracy/top1'),
                flipped=dict(logged='accuracy/top1', tta=True),
            ),
        )
    ),
    tables=[
        dict(
            number='1',
            title='Tiny models',
            data='Digits',
            rows=[
                dict(name='Tiny', family='V2M', config='tiny.py', params=0.5, flops=0.1, top1=50.0),
                dict(name='No data', family='V2M', config='no-data.py'),
                dict(name='No config', family='V2M', config='gone.py', note='lost'),
            ],
        )
    ],
)
NO_DATA = """
_base_ = 'tiny.py'
train_dataloader = dict(dataset=dict(_delete_=True, type='CustomDataset', data_root='nowhere',
                                     pipeline=[]))
"""


@pytest.fixture
def reproduce(load_main, monkeypatch):
    Path('stopper.py').write_text(STOPPER)
    monkeypatch.setenv('PYTHONPATH', str(Path.cwd()))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    text = TINY_DIGITS.replace("'mmv2m.engine'", "'mmv2m.engine', 'stopper'")
    Path('tiny.py').write_text(text + "custom_hooks = [dict(type='Stopper')]\n")
    Path('no-data.py').write_text(NO_DATA)
    Path('tables.yml').write_text(yaml.safe_dump(PIECES, sort_keys=False))
    monkeypatch.syspath_prepend(str(Path.cwd()))
    main = load_main('reproduce')

    def run(*arguments):
        return main(['--tables', 'tables.yml', '--records', 'records', *arguments])

    return run


def test_rows_are_reported_whatever_is_missing_for_some(reproduce, capsys):
    assert reproduce('--out', 'out') == 0
    shown, said = capsys.readouterr()
    assert [line for line in said.splitlines() if line.startswith('[')] == [
        *('[1/3] Tiny', '[2/3] No data', '[3/3] No config'),
    ]
    assert Path('out/reproduce.md').read_text().strip() == shown.strip()
    tiny, no_data, no_config = json.loads(Path('out/reproduce.json').read_text())
    assert tiny['missing'] == [] and tiny['top1'] == dict(
        printed=50.0, here=None, std=None, runs=0, trained=None
    )
    params = tiny['params_M']
    assert params['here'] > 0 and params['difference'] == pytest.approx(params['here'] - 0.5)
    assert tiny['flops_G']['with_scans'] > tiny['flops_G']['without_scans']
    assert no_data['params_M']['here'] == params['here']
    (missing,) = no_data['missing']
    assert missing.startswith('data missing: ') and str(Path('nowhere').absolute()) in missing
    (missing,) = no_config['missing']
    assert missing.startswith('config wrong: ') and 'gone.py does not exist' in missing
    lines = shown.splitlines()
    assert any('| Tiny ' in line and '50.0 / –' in line for line in lines)
    assert any(line.startswith('- No data: data missing: ') for line in lines)
    assert '- No config: lost' in lines
    with Path('out/reproduce.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['row'] for row in rows] == ['Tiny', 'No data', 'No config']
    assert float(rows[0]['params_M here']) == params['here'] and rows[2]['params_M here'] == ''


def test_a_run_stops_resumes_and_records_its_result(reproduce, capsys, monkeypatch):
    """The training that stops is a process, which ends at once. What follows runs here."""
    Path('stop').touch()
    assert reproduce('--run') == 1
    said = capsys.readouterr().err
    assert 'No data (no-data.py): cannot be run: data missing' in said
    assert 'No config (gone.py): cannot be run: config' in said
    assert '[1/1] Tiny: training' in said and 'train.py ended with status 3' in said
    work_dir = Path('work_dirs/reproduce/tiny_seed0')
    assert (work_dir / 'epoch_1.pth').exists() and not load_records(Path('records'))
    seconds = json.loads((work_dir / 'reproduce.json').read_text())['seconds']
    assert seconds > 0

    Path('stop').unlink()
    monkeypatch.setattr('mmv2m.reproduce.runs._run', run_tool)
    assert reproduce('--run', '--rows', 'tiny') == 0
    said = capsys.readouterr()
    logs = sorted(work_dir.glob('*/*.log'))
    assert 'resumed epoch: 1' in logs[-1].read_text()
    (record,) = load_records(Path('records'))
    assert (record.kind, record.seed, record.global_batch) == ('training', 0, 8)
    assert record.options == {'randomness.seed': 0}
    assert record.seconds > seconds
    assert set(record.metrics) == {'accuracy/top1', 'tta/accuracy/top1'}
    value = record.metrics['accuracy/top1']
    assert f'50.0 / {value:.2f} (1)' in said.out

    # What is done is not done again.
    assert reproduce('--run', '--rows', 'Tiny') == 0
    assert sorted(work_dir.glob('*/*.log')) == logs and len(load_records(Path('records'))) == 1

    # Other settings belong into another folder, and their result is not the row's.
    other = ('--run', '--rows', 'Tiny', '--cfg-options', 'optim_wrapper.optimizer.lr=0.1')
    assert reproduce(*other) == 1
    assert 'with other settings: remove it' in capsys.readouterr().err

    # The run's weights under another name are somebody else's.
    weights = Path('theirs.pth')
    weights.write_bytes((work_dir / 'epoch_2.pth').read_bytes())
    assert reproduce('--checkpoint', str(weights), '--rows', 'Tiny', '--records', 'theirs') == 0
    (evaluation,) = load_records(Path('theirs'))
    assert evaluation.kind == 'evaluation' and evaluation.metrics == record.metrics
    assert evaluation.checkpoint == record.checkpoint and evaluation.options == {}
    assert f'50.0 / {value:.2f} (1) †' in capsys.readouterr().out


def test_weights_of_another_model_are_refused(reproduce, capsys):
    torch.save(dict(state_dict={'backbone.other': torch.zeros(1)}), 'other.pth')
    assert reproduce('--checkpoint', 'other.pth', '--rows', 'Tiny') == 1
    said = capsys.readouterr().err
    assert 'other.pth lacks' in said and 'parameters of tiny.py, such as backbone.' in said
    assert not Path('work_dirs').exists()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--table', '5'], 'there is no table 5, but 1 and all'),
        (['--rows', 'Tin'], "table all has no row Tin; did you mean 'Tiny'"),
        (['--run', '--checkpoint', 'x.pth'], 'give one of the two'),
        (['--checkpoint', 'x.pth'], 'name it by --rows; there are 3'),
        (['--tables', 'tiny.py'], 'custom_imports = dict( imports...'),
        (['--gpus', '0'], '--gpus must be positive'),
        (['--seed', '-1'], '--seed must not be negative, but is -1'),
        (['--run', '--weights', 'gone.pth'], '--weights gone.pth does not exist'),
        (['--out', 'tiny.py'], '--out tiny.py cannot be made: File exists'),
        (['--out', 'closed'], '--out closed cannot be written to'),
        (['--cfg-options', 'lr'], 'takes key=value pairs'),
    ],
)
def test_mistakes_in_the_command_line(reproduce, capsys, monkeypatch, arguments, words):
    monkeypatch.setattr('os.access', lambda path, mode: Path(path).name != 'closed')
    with pytest.raises(SystemExit) as stop:
        reproduce(*arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert words in said and '[1/' not in said


def test_a_wrong_record_is_said_before_work_is_done(reproduce, capsys):
    Path('records').mkdir()
    Path('records/tiny_seed0_00000000.json').write_text('{}')
    with pytest.raises(SystemExit):
        reproduce('--run')
    assert 'tiny_seed0_00000000.json lacks kind' in capsys.readouterr().err
    assert not Path('work_dirs').exists()
