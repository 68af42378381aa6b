"""The benchmarks' commands and bookkeeping; what they measure needs a GPU."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'tools' / 'benchmarks'


def test_every_script_takes_its_arguments(script):
    for entry in script('entries').ENTRIES:
        name, *arguments = entry.command()
        args = script(Path(name).stem).parse_args([*arguments, '--out', 'results.json'])
        assert args.out == 'results.json'
        known = {'official.py': 'official.PAIRS', 'training.py': 'trained.TRAINED'}
        module, _, names = known.get(name, 'models.MODELS').partition('.')
        known = getattr(script(module), names)
        assert set(getattr(args, 'models', [])) <= set(known), entry.name


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_hosts_time_without_a_gpu():
    pytest.importorskip('triton')
    pytest.importorskip('timm')
    command = [sys.executable, FOLDER / 'host.py', '--steps', '1', '--batch', '1']
    plain = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=True)
    assert re.search(r'^V2M-S\*( +-?\d+){3}$', done.stdout, re.M)


def test_entries_are_unlike(load):
    entries = load('entries')
    names = [entry.name for entry in entries.ENTRIES]
    assert len(set(names)) == len(names) == len({e.shown() for e in entries.ENTRIES})
    assert names[0] == 'training' and names[-1] == 'reference'
    assert load('page_tables').TABLES.keys() == set(names)


def test_groups_of_entries(load):
    entries = load('entries')
    chosen = entries.select(entries.ENTRIES, ['official', 'models'])
    assert [e.name for e in chosen] == ['models', 'official-vim', 'official-vmamba']
    assert entries.select(entries.ENTRIES, None) == list(entries.ENTRIES)
    with pytest.raises(ValueError, match='no benchmark is called model; there are training, '):
        entries.select(entries.ENTRIES, ['model'])


SCRIPT = """
import sys, time
import entries
what, _, out = sys.argv[1:]
print('measuring', what)
if what != 'nothing':
    open(out, 'w').write('{"run": "%s"}' % what)
if what == 'late':
    time.sleep(60)
sys.exit(3 * (what == 'failing'))
"""


@pytest.fixture
def suite(load, tmp_path, monkeypatch):
    """The module, the folder of its results, and entries of a made script."""
    module = load('suite')
    (tmp_path / 'made.py').write_text(SCRIPT)
    monkeypatch.setenv('PYTHONPATH', str(FOLDER))

    def entry(name, **settings):
        return module.Entry(name, str(tmp_path / 'made.py'), (name,), **settings)

    def make(again=False):
        clones = dict(Vim=tmp_path / 'no clone', VMamba=tmp_path)
        return module.Suite(tmp_path / 'out', clones, again)

    return module.run_all, make, entry


def test_a_suite_goes_on_after_failures(suite, capsys):
    run_all, make, entry = suite
    chosen = [entry('failing'), entry('late', limit=3), entry('nothing'), entry('good')]
    problems = run_all(make(), chosen)
    assert problems == {
        'failing': 'exit status 3',
        'late': 'took more than its 3 s',
        'nothing': 'wrote no results',
    }
    out = make().out
    assert [path.name for path in sorted(out.glob('*.json'))] == [
        *('failing.part.json', 'good.json', 'late.part.json')
    ]
    log = (out / 'good.log').read_text()
    assert log == 'measuring good\n'
    printed = capsys.readouterr().out
    assert '[1/4] failing: to do' in printed and '    | measuring failing' in printed


def test_what_is_done_is_done_once(suite):
    run_all, make, entry = suite
    chosen, result = [entry('good'), entry('failing')], make().out / 'good.json'
    assert list(run_all(make(), chosen)) == ['failing']
    result.write_text('kept')
    assert list(run_all(make(), chosen)) == ['failing']  # a partial result is not a result
    assert result.read_text() == 'kept'
    assert list(run_all(make(again=True), chosen)) == ['failing']
    assert json.loads(result.read_text()) == {'run': 'good'}


def test_what_is_missing_is_left_out(suite, capsys):
    run_all, make, entry = suite
    chosen = [
        entry('kernels', needs=('sys', 'no_such_kernels')),
        entry('vim', clone='Vim'),
        entry('good', needs=('sys',)),
    ]
    assert run_all(make(), chosen) == {}
    assert [path.name for path in make().out.glob('*.json')] == ['good.json']
    printed = capsys.readouterr().out
    assert 'kernels: left out: it needs no_such_kernels' in printed
    assert 'vim: left out: it needs a clone of the official Vim: give its path as --vim' in printed


def test_the_suite_command(load, tmp_path, capsys, monkeypatch):
    suite = load('suite')
    assert suite.main(['--out', 'results', '--list', '--only', 'breakdown', 'official']) == 0
    printed = capsys.readouterr().out
    assert not Path('results').exists()
    assert "breakdown.py --model 'V2M-B*' --training" in printed and 'models.py' not in printed
    with pytest.raises(SystemExit):
        suite.main(['--out', 'results', '--only', 'nothing'])
    monkeypatch.setattr(suite, 'run_all', lambda *args: dict(models='exit status 1'))
    assert suite.main(['--out', 'results']) == 1
    assert 'FAILED models: exit status 1' in capsys.readouterr().out


def test_official_command_passes_the_clones(load, tmp_path):
    suite = load('suite')
    entry = next(e for e in suite.ENTRIES if e.name == 'official-vim')
    command = suite.Suite(tmp_path, dict(Vim=tmp_path / 'Vim')).command(entry)
    assert command[1:] == [
        *(str(FOLDER / 'official.py'), '--models', 'Vim-T', 'Vim-S'),
        *('--vim', str(tmp_path / 'Vim')),
    ]


def test_results_are_written_as_they_come(script, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.get_device_name', lambda: 'GPU of the test')
    results = script('results').Results('results.json', grid=(1, 2))
    results.append(dict(a=1))
    results.append(dict(a=2))
    found = json.loads(Path('results.json').read_text())
    assert found['device'] == 'GPU of the test' and found['grid'] == [1, 2]
    assert found['results'] == [dict(a=1), dict(a=2)]
    assert {'torch', 'triton', 'date'} < found.keys()


@pytest.mark.parametrize(
    'name',
    ['breakdown', 'first_use', 'kernels', 'mixer', 'models', 'official', 'operators', 'scaling'],
)
def test_a_machine_without_a_gpu(script, monkeypatch, name):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.setattr(sys, 'argv', [f'{name}.py'])
    with pytest.raises(SystemExit, match='error: this benchmark needs a GPU, but PyTorch finds n'):
        script(name).main()


def test_kernels_by_name(script):
    describe = script('kernels').describe
    assert describe('CUDA conv forward 2') == dict(kernel='conv forward', half=2, backend='cuda')
    assert describe('projection') == dict(kernel='projection', half=None, backend='triton')


def test_kernels_by_grid(script):
    def event(name, blocks, microseconds):
        args = dict(grid=[blocks, 1, 1], block=[96, 1, 1])
        return dict(cat='kernel', name=name, args=args, dur=microseconds)

    events = [event('scan', 330, 100), event('conv', 7, 900), event('scan', 1320, 500)]
    events += [event('scan', 330, 300), dict(cat='cpu_op', name='scan', dur=5), dict(ph='M')]
    assert script('profiled').by_grid(events) == [
        ('conv [7, 1, 1] x 96', 1, 0.9),
        ('scan [1320, 1, 1] x 96', 1, 0.5),
        ('scan [330, 1, 1] x 96', 2, 0.4),
    ]


def test_packages_without_their_init(load, tmp_path, monkeypatch):
    package = tmp_path / 'made_package'
    package.mkdir()
    (package / '__init__.py').write_text('import what_is_not_there')
    (package / 'part.py').write_text('VALUE = 1')
    monkeypatch.syspath_prepend(tmp_path)
    provide = load('bare_package').provide_package
    assert not provide('no_such_package')
    with pytest.raises(ImportError):
        importlib.import_module('made_package.part')
    assert provide('made_package')
    assert importlib.import_module('made_package.part').VALUE == 1
    for name in ('made_package', 'made_package.part'):
        del sys.modules[name]
