"""neighbours.py on a CPU, where it times small things; and its page."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'tools' / 'benchmarks'
HEAD = dict(device='GPU of the test', torch='2.11', triton='3.6', date='2026-11-30')


def run(folder, *arguments, code=0):
    """The command on a CPU; what it prints and what it writes."""
    pytest.importorskip('triton')
    pytest.importorskip('timm')
    out = folder / 'neighbours.json'
    command = [sys.executable, str(FOLDER / 'neighbours.py'), '--clones', str(folder)]
    command += ['--device', 'cpu', '--rep', '1', '--batch', '2', '--out', str(out), *arguments]
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    environment['OMP_NUM_THREADS'] = '1'
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout, json.loads(out.read_text())['results'] if out.exists() else None


def test_command_measures_and_says_why_not(tmp_path):
    printed, results = run(
        tmp_path,
        *('--models', 'MambaVision-T, official', 'V2M-S*', '--sizes', '32'),
        *('--operators', 'V2M, one corner', '--grids', '4', '5', '--modes', 'eager', 'graph'),
    )
    found = {(r['name'], r['mode'], r['size'], r['training']): r for r in results}
    whole = found.pop(('MambaVision-T, official', None, None, None))
    assert whole['failure'] == f'FileNotFoundError: there is no clone {tmp_path / "MambaVision"}'
    places = [('V2M-S*', 32), ('V2M, one corner', 4), ('V2M, one corner', 5)]
    assert set(found) == {
        (name, mode, size, training)
        for name, size in places
        for mode in ('eager', 'graph')
        for training in (False, True)
    }
    for (_, mode, _, _), r in found.items():
        if mode == 'graph':
            assert r['failure'] == 'RuntimeError: CUDA graphs need a GPU'
            continue
        assert r['batch'] == 2 and r['parameters'] > 1e4 and r['milliseconds'] > 0
        assert r['images_per_second'] == pytest.approx(2e3 / r['milliseconds'])
    assert f'V2M-S*{"":>32}' in printed and 'CUDA graphs need a GPU' in printed


def test_official_code_on_our_scan(tmp_path):
    clones = os.environ.get('MMV2M_CLONES')
    if clones is None or not (Path(clones) / 'Vim').exists():
        pytest.skip('needs a clone of the official Vim in $MMV2M_CLONES')
    (tmp_path / 'Vim').symlink_to(Path(clones) / 'Vim')
    chosen = ['--models', 'Vim-T on our scan', '--sizes', '32', '--modes', 'eager']
    operator = ['--operators', 'Vim, two directions, on our scan', '--grids', '3']
    _, results = run(tmp_path, *chosen, *operator)
    assert len(results) == 4 and not any('failure' in r for r in results)
    (sample,) = [r['sample'] for r in results if 'sample' in r]
    assert len(sample['logits']) == 32 and sample['gradient_norm'] > 0


def test_a_budget_ends_a_run(tmp_path):
    start = time.monotonic()
    printed, results = run(
        tmp_path,
        *('--models', 'DeiT-T', '--operators', 'V2M, one corner', '--budget-seconds', '0.1'),
        code=1,  # nothing has been measured
    )
    assert results is None and time.monotonic() - start < 60
    assert 'left out, for the budget: models: DeiT-T; operators: V2M, one corner' in printed


def test_a_process_that_takes_too_long(script, tmp_path, monkeypatch):
    neighbours = script('neighbours')
    script = tmp_path / 'neighbour_runs.py'
    script.write_text(
        'import json, sys, time\n'
        'task = json.loads(sys.argv[1])\n'
        'if task["name"] == "DeiT-T": time.sleep(60)\n'
        'print(json.dumps(dict(ready=True)), flush=True)\n'
        'sys.stdin.readline()\n'
        'if task["name"] == "Vim-T": sys.exit("no such thing")\n'
        'found = dict(mode="eager", size=8, training=False, milliseconds=2.0, peak_gib=None)\n'
        'print(json.dumps(dict(found, images_per_second=1.0)), flush=True)\n'
        'if task["name"] == "Swin-T": time.sleep(60)\n'
    )
    monkeypatch.setattr(neighbours, 'FOLDER', tmp_path)
    results = neighbours.Merged(None, 'CPU')
    names = ('DeiT-T', 'Vim-T', 'Swin-T', 'V2M-T')
    plan = [dict(kind='models', name=name) for name in names]
    left = neighbours.Run(plan, results, ahead=4, limit=2.0, budget=60.0).go()
    assert left == []
    found = {r['name']: r.get('failure') for r in results}
    assert found == {
        'DeiT-T': 'took more than 2 s',
        'Vim-T': 'exit status 1: no such thing',
        'Swin-T': 'took more than 2 s',
        'V2M-T': None,
    }
    assert [r['milliseconds'] for r in results if 'milliseconds' in r] == [2.0, 2.0]


def measured(name, kind='models', mode='eager', size=224, training=False, **others):
    common = dict(kind=kind, name=name, mode=mode, size=size, training=training, date='2026-11-30')
    return {**common, **others}


def test_results_of_several_runs_are_merged(script, tmp_path, monkeypatch):
    neighbours = script('neighbours')
    path = tmp_path / 'neighbours.json'
    first = neighbours.Merged(path, 'CPU')
    first.append(measured('A', mode=None, size=None, training=None, failure='no clone'))
    first.append(measured('B', milliseconds=1.0))
    first.append(measured('B', training=True, milliseconds=2.0))
    second = neighbours.Merged(path, 'CPU')
    second.append(measured('A', milliseconds=3.0))
    second.append(measured('B', milliseconds=4.0))
    found = [(r['name'], r['training'], r['milliseconds']) for r in neighbours.Merged(path, 'CPU')]
    assert sorted(found) == [('A', False, 3.0), ('B', False, 4.0), ('B', True, 2.0)]
    with pytest.raises(ValueError, match='is of device CPU, not another; give another --out'):
        neighbours.Merged(path, 'another')


def figures(milliseconds, batch, gib=None):
    speed = batch / milliseconds * 1e3
    common = dict(batch=batch, peak_gib=gib, parameters=7e6)
    return dict(milliseconds=milliseconds, images_per_second=speed, **common)


def test_page(script):
    page = script('page')
    text = (ROOT / 'docs' / 'neighbours.md').read_text()
    operator = dict(kind='operators', size=32)
    results = [
        measured('V2M-T', **figures(16.0, 128, 1.0)),
        measured('X', **figures(1.0, 128), sample=dict(logits=[1.0, 0.0], gradient_norm=1.0)),
        measured('V2M-T', training=True, **figures(64.0, 128, 4.4)),
        measured('V2M-T', mode='graph', failure='no `graph`'),
        measured('Other', mode=None, size=None, training=None, failure='no nvcc'),
        measured('V2M, one corner', **operator, **figures(0.5, 64, 0.25)),
        measured('V2M, one corner', **operator, training=True, **figures(2.0, 64, 0.75)),
    ]
    records = {('h200', 'neighbours'): {**HEAD, 'results': results}}
    shown = page.build_neighbours(text, records)
    assert '224 x 224, batch 128; images/s (milliseconds):' in shown
    row = next(line for line in shown.splitlines() if line.startswith('| V2M-T'))
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells == ['V2M-T', '7.0', '8,000 (16.0)', 'failed', '2,000 (64.0)', '–', '4.4']
    assert '| 64 x 32 x 32 |' in shown and '| 0.5 / 2      |' in shown
    assert '0.25 / 0.75' in shown
    assert '- V2M-T (CUDA graph, 224, inference): `no graph`\n- Other: `no nvcc`' in shown
    assert 'GPU of the test, torch 2.11, Triton 3.6, 2026-11-30:' in shown
    assert 'Not compared yet.' in shown
    assert page.build_neighbours(shown, records) == shown
    readme = (ROOT / 'README.md').read_text()
    assert row in page.build_readme(readme, records)
    begin, end = page.marks('neighbours')
    assert f'{begin}{end}' in page.build_readme(readme, {}).replace('\n', '')


def test_models_on_two_scans_are_compared(script):
    def sampled(name, logits, norm):
        return measured(name, sample=dict(logits=logits, gradient_norm=norm))

    results = [
        sampled('A, official', [3.0, 4.0], 2.0),
        sampled('A on our scan', [3.0, 4.005], 2.0002),
        sampled('B, official', [1.0], 1.0),
    ]
    table = script('neighbour_page').agreement(results)
    rows = [[c.strip() for c in line.strip('|').split('|')] for line in table.splitlines()[2:]]
    assert rows == [['A, official', '224', '1e-03', '1e-04']]


def test_facts_are_complete(script):
    facts = script('neighbour_page').load_facts()
    for repository in facts['repositories']:
        assert facts['columns'].keys() < repository.keys(), repository['name']
        assert all(isinstance(repository[key], str) for key in facts['columns'])
        assert ('commit' in repository) == ('date' in repository)
    cases = script('neighbour_cases')
    clones = {case.clone for kind in cases.KINDS.values() for case in kind.values()}
    assert clones - {None} == {r['name'] for r in facts['repositories']} - {'mmv2m'}
    code = (FOLDER / 'official_code.py').read_text() + (FOLDER / 'neighbour_cases.py').read_text()
    for repository in facts['repositories'][1:]:
        assert repository['commit'] in code, repository['name']


@torch.no_grad()
def test_recurrence_of_mamba2d(script):
    """By the operator, against a walk over all tokens."""
    scans = script('scans_2d')
    torch.manual_seed(0)
    batch, height, width, channels, states = 2, 3, 4, 5, 2
    size = (batch, height, width)
    module = scans.MeanOfNeighbours(
        scans.coupled_scan_of_means, size, channels, states, torch.float32
    )
    x = torch.randn(*size, channels)
    nothing, left = torch.zeros(batch, channels, states), {}
    expected = torch.empty_like(x)
    for i, j in itertools.product(range(height), range(width)):
        steps = module.delta[:, i, j, :, None]
        kept = [(steps * rates).exp() for rates in module.A]
        before = (left.get((i, j - 1), nothing), left.get((i - 1, j), nothing))
        state = (kept[0] * before[0] + kept[1] * before[1]) / 2
        state = state + steps * module.B[:, i, j, None] * x[:, i, j, :, None]
        left[i, j] = state
        expected[:, i, j] = (state * module.C[:, i, j, None]).sum(-1) + x[:, i, j]
    assert torch.allclose(module(x), expected, atol=1e-5)
