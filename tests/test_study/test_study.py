"""The parts of a study: its plan, what counts as a result, time, and the summary."""

from dataclasses import replace
from pathlib import Path

import pytest

from mmv2m.engine.config import load_config
from mmv2m.engine.errors import UserError
from mmv2m.engine.records import Record, config_digest, config_id, load_records
from mmv2m.reproduce.report import measure_row
from mmv2m.study.budget import AROUND, LONGEST, Budget, expected_seconds
from mmv2m.study.outcome import Outcomes
from mmv2m.study.plan import Run, load_study, plan_runs
from mmv2m.study.summary import MARKS, NO_RESULTS, Summary, update_page

ROOT = Path(__file__).resolve().parents[2]
CIFAR = load_study(ROOT / 'configs/studies/cifar10.yml')


def _record(config, seed, accuracy, seconds=100.0, **changes):
    record = Record(
        kind='training',
        config=config_id(config),
        config_digest=config_digest(load_config(str(config))),
        options={'randomness.seed': seed},
        commit=None,
        dirty=False,
        hardware='1 x CPU',
        gpus=1,
        software={},
        metrics={'accuracy/top1': accuracy},
        checkpoint='0' * 64,
        seed=seed,
        global_batch=4,
        seconds=seconds,
        log_digest='0' * 64,
    )
    return replace(record, **changes)


def test_the_study_is_matched_and_runs_each_config_once():
    runs = plan_runs(CIFAR.select([]), (0, 1, 2))
    assert len(runs) == len(set(runs)) == 78
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert {run.config for run in runs} == set(CIFAR.path.parent.glob('*.py'))
    for comparison in CIFAR.comparisons:
        params = [measure_row(arm.config, CIFAR.data.size).params for arm in comparison.arms]
        assert max(params) < 1.05 * min(params)


def test_arms_differ_from_the_first_in_their_backbones_alone():
    for comparison in CIFAR.comparisons:
        configs = [load_config(str(arm.config)).to_dict() for arm in comparison.arms]
        assert len({str(cfg['model'].pop('backbone')) for cfg in configs}) == len(configs)
        assert all(cfg == configs[0] for cfg in configs)


def test_select(micro):
    assert [c.name for c in micro.select(['again'])] == ['again']
    assert [len(c.arms) for c in micro.select(['one'])] == [1, 1]
    with pytest.raises(UserError, match="did you mean 'corners'"):
        micro.select(['corner'])


def test_study_without_a_config(place):
    Path('one.py').unlink()
    with pytest.raises(UserError, match=r'one: there is no .*one\.py'):
        load_study(place / 'study.yml')


def test_only_records_of_the_same_recipe_and_seed_count(micro):
    config = micro.comparisons[0].arms[0].config
    right = _record(config, 0, 50.0)
    other = {'randomness.seed': 0, 'optim_wrapper.optimizer.lr': 0.1}
    assert Outcomes([right], {}).of_run(Run(config, 0)) == right
    assert Outcomes([right], {}).of_run(Run(config, 1)) is None
    for wrong in (
        replace(right, options=other),
        replace(right, config_digest='1' * 64),
        replace(right, global_batch=8),
        replace(right, config='one.py'),
    ):
        assert Outcomes([wrong], {}).of_run(Run(config, 0)) is None
    changed = replace(right, options=other)
    options = {'optim_wrapper.optimizer.lr': 0.1}
    assert Outcomes([right, changed], options).of_run(Run(config, 0)) == changed


def test_expected_time_and_budget(micro):
    both, one = (arm.config for arm in micro.comparisons[0].arms)
    none, of_both = Outcomes([], {}), Outcomes([_record(both, 0, 1.0, 200.0)], {})
    assert expected_seconds(one, (both, one), none) == LONGEST + AROUND
    assert expected_seconds(one, (both, one), of_both) == 200 + AROUND
    faster = Outcomes([*of_both.records, _record(one, 0, 1.0, 90.0)], {})
    assert expected_seconds(one, (both, one), faster) == 90 + AROUND
    now = iter((1000.0, 1050.0, 1050.0))
    budget = Budget(2.0, clock=lambda: next(now))
    assert budget.allows(70.0) and not budget.allows(71.0)
    assert Budget(None).allows(1e9)


def test_summary(micro):
    both, one = (arm.config for arm in micro.comparisons[0].arms)
    records = [_record(both, 0, 50.0), _record(both, 1, 54.0), _record(one, 0, 49.0)]
    records += [_record(one, 1, 51.0), _record(one, 7, 99.0)]
    summary = Summary(micro, micro.comparisons, Outcomes(records, {}), (0, 1, 2))
    lines = summary.as_markdown().splitlines()
    rows = {line.split()[1]: line for line in reversed(lines) if line.startswith('| ')}
    assert '52.00 ± 2.83 (2)' in rows['both']
    assert '50.00 ± 1.41 (2)' in rows['one'] and '-2.00 ± 1.41 (2)' in rows['one']
    assert '4 of 6 runs are done, on 1 x CPU.' in lines[-1]


def test_update_page_needs_its_marks(tmp_path):
    page = tmp_path / 'page.md'
    with pytest.raises(UserError, match='there is no page'):
        update_page(page, '')
    page.write_text(MARKS[0])
    with pytest.raises(UserError, match='needs the marks'):
        update_page(page, '')


def test_the_page_says_what_the_records_say():
    outcomes = Outcomes(load_records(ROOT / 'records/cifar10'), {})
    summary = Summary(CIFAR, CIFAR.comparisons, outcomes, (0, 1, 2))
    page = (ROOT / 'docs/study.md').read_text()
    results = page.partition(f'{MARKS[0]}\n')[2].partition(f'\n{MARKS[1]}')[0]
    plot = 'images/study.png' if summary.any_results else None
    assert results == summary.as_markdown(plot)
    assert (results == NO_RESULTS) == (not outcomes.records)
