"""A study of micro models from its first run to its page, interrupted in between."""

import json
import re
from pathlib import Path

import pytest
from mmengine.runner import EpochBasedTrainLoop
from runners import forget_runners, run_tool

from mmv2m.engine.errors import UserError
from mmv2m.reproduce import runs
from mmv2m.study.command import parse_study_args, study


@pytest.fixture
def in_process(monkeypatch):
    """Run the tools here, not as processes."""
    monkeypatch.setattr(runs, '_run', run_tool)
    yield
    forget_runners()


@pytest.fixture
def interrupt(monkeypatch):
    """Interrupt the fourth epoch: the second one of the second run."""
    epochs, run_epoch = [], EpochBasedTrainLoop.run_epoch

    def counted(self):
        epochs.append(self.epoch)
        if len(epochs) == 4:
            raise KeyboardInterrupt
        run_epoch(self)

    monkeypatch.setattr(EpochBasedTrainLoop, 'run_epoch', counted)
    return epochs


def _study(*arguments):
    paths = ('--study', 'study.yml', '--records', 'records', '--seeds', '3')
    return study(parse_study_args([*paths, *arguments]))


def _records():
    return {path.stem.split('_')[0]: path.read_text() for path in Path('records').glob('*.json')}


def test_interrupted_resumed_summarised(place, in_process, interrupt, capsys):
    assert _study() == 130
    assert 'stopped' in capsys.readouterr().err
    first = _records()
    assert list(first) == ['both']

    assert _study('--list') == 0
    listed = capsys.readouterr().out
    assert re.search(r'both, seed 3 +done in', listed) and re.search(r'one, seed 3 +to do', listed)

    assert _study() == 0
    assert interrupt == [0, 1, 0, 1, 1]  # the second run went on with its second epoch
    records = _records()
    assert records['both'] == first['both'] and sorted(records) == ['both', 'one']
    assert json.loads(records['one'])['seed'] == 3

    assert _study() == 0
    assert len(interrupt) == 5 and _records() == records

    assert _study('--summary', '--out', 'docs') == 0
    page = Path('docs/study.md').read_text()
    assert page.startswith('before\n') and page.endswith('after\n') and 'old' not in page
    for name, text in records.items():
        accuracy = json.loads(text)['metrics']['accuracy/top1']
        assert re.search(rf'\| {name} +\| \d+\.\d\d M \| {accuracy:.2f} \(1\)', page)
    assert '2 of 2 runs are done' in page
    assert Path('docs/images/study.png').stat().st_size > 1000


def test_budget_ends_before_a_run_that_would_not_fit(place, in_process, capsys):
    assert _study('--budget-minutes', '5') == 0
    assert 'stopping before both, seed 3' in capsys.readouterr().out
    assert not Path('records').exists()


def test_no_records(place, capsys):
    assert _study('--summary', '--out', 'docs') == 0
    assert 'There are no results yet' in Path('docs/study.md').read_text()
    assert not Path('docs/images').exists()


def test_a_budget_is_positive(place):
    with pytest.raises(UserError, match='--budget-minutes must be positive: -1'):
        _study('--budget-minutes', '-1')
