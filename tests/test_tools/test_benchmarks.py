"""The benchmarks' bookkeeping and pages; what they measure needs a GPU."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runners import forget_runners
from tiny_digits import TINY_DIGITS

from mmv2m.engine.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'tools' / 'benchmarks'
HEAD = dict(device='GPU of the test', torch='2.11', triton='3.6', date='2026-11-26')


@pytest.fixture
def load(monkeypatch):
    """Import a module of tools/benchmarks as its scripts do; their plain names do not stay."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for path in FOLDER.glob('*.py'):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def script(load):
    """Import a script, all of which need what the benchmarks compare with."""
    pytest.importorskip('triton')
    pytest.importorskip('timm')
    return load


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


def _model(name, images, training, peak=1.0, mode='eager'):
    return dict(
        model=name,
        mode=mode,
        training=training,
        batch=128,
        milliseconds=128 / images * 1e3,
        images_per_second=images,
        peak_gib=peak,
    )


def _step(model, whole, busy, sizes=('224x224',), **found):
    parts = dict(preprocessing=1.0, forward=9.0, backward=15.04, optimizer=0.5, hooks=0.25)
    return dict(
        model=model,
        milliseconds=whole,
        images_per_second=64e3 / whole,
        gpu_milliseconds=busy,
        parts=parts,
        sizes={size: whole + i for i, size in enumerate(sizes)},
        peak_gib=5.26,
        groups=2,
        graphs=True,
        **found,
    )


def _official(side, training, images, number):
    measured = _model('Vim-T', images, training, peak=3.0 if side == 'ours' else 4.7)
    return dict(**measured, side=side, round=number, logits_error=2.4e-7, gradient_error=1e-5)


MADE = {
    'training': dict(results=[_step('V2M-S*', 25, 20), _step('Swin-T', 40.12, 38)]),
    'training-dense': dict(
        results=[
            _step('Mask R-CNN V2M-S*', 90, 81, sizes=('480x640', '800x1216')),
            _step('UPerNet V2M-S*', 50, 45, sizes=('512x512',)),
        ]
    ),
    'training-files': dict(
        workers=8,
        results=[
            dict(transform='LoadImageFromFile', milliseconds=0.9),
            dict(transform='PackInputs', milliseconds=0.123),
            dict(what='both', images_per_second=2345.6),
        ],
    ),
    'models': dict(
        results=[
            *(_model('V2M-T', 6000.4, False), _model('V2M-T', 2000, True, 4.51)),
            *(_model('V2M-S*', 5500, False), _model('V2M-S*', 1800, True, 8.0)),
            *(_model('Swin-T', 5000, False), _model('Swin-T', 2000, True, 10.0)),
            _model('V2M-B*', 3000, False),
        ]
    ),
    'latency': dict(
        results=[
            *(_model('V2M-T', 100, False), _model('V2M-T', 1000, False, mode='graph')),
            _model('DeiT-T', 200, False),
        ]
    ),
    'kernels': dict(
        results=[
            dict(kernel='conv forward', half=1, backend='triton', microseconds=61.7),
            dict(kernel='conv forward', half=2, backend='triton', microseconds=91),
            dict(kernel='gate forward', half=None, backend='triton', microseconds=27),
            dict(kernel='scan forward', half=1, backend='cuda', microseconds=200, floor_us=146.4),
            dict(kernel='conv forward', half=1, backend='cuda', microseconds=57),
            dict(kernel='conv forward', half=2, backend='cuda', microseconds=1081),
        ]
    ),
    'operators': dict(
        copy_bytes_per_second=4.256e12,
        exponentials_per_second=3.9e12,
        results=[
            dict(case='sequence', backend='cuda', forward_ms=0.1, both_ms=1, floor_ms=0.05),
            dict(case='sequence', backend='bare', forward_ms=0.4, both_ms=1.5, floor_ms=0.05),
            dict(case='map', backend='cuda', forward_ms=0.2, both_ms=2, floor_ms=0.05),
        ],
    ),
    'breakdown-t': dict(
        gpu_milliseconds=50.0,
        host_milliseconds=41.26,
        results=[
            dict(kernel=f'kernel<{i}>', calls=24, milliseconds=5.0 if i else 20.0)
            for i in range(17)
        ],
    ),
    'mixer': dict(
        results=[
            dict(model='V2M-T', layer='cuda', training=t, milliseconds=1 + t, peak_gib=0.5 + t)
            for t in (False, True)
        ]
    ),
    'scaling': dict(
        results=[
            dict(_model('V2M-T', 1, True, peak=0.5), pixels=224, batch=8, milliseconds=47.3)
            | dict(tokens=8 * 196)
        ]
    ),
    'official-vim': dict(
        results=[
            *(_official('ours', False, 4000, 1), _official('official', False, 2000, 1)),
            *(_official('ours', False, 4200, 2), _official('official', False, 2100, 2)),
            *(_official('ours', True, 1000, 1), _official('official', True, 800, 1)),
        ]
    ),
}
CELLS = {
    'training': [
        'V2M-S* | 25.0 | 20.0 | 80% | 2,560 | 1.0 | 9.0 | 15.0 | 0.5 | 0.2 | 5.3 | 2 | yes |',
        'Swin-T | 40.1 | 38.0 | 95% | 1,595 |',
    ],
    'training-dense': [
        'Mask R-CNN V2M-S* | 90.0 | 81.0 | 90% |',
        'milliseconds a step | 480 x 640 | 800 x 1216 |',
        'Mask R-CNN V2M-S* | 90.0 | 91.0 |',
    ],
    'training-files': [
        '8 workers | images/s |',
        'both | 2,346 |',
        '`PackInputs` | 0.12 |',
        'all | 1.02 |',
    ],
    'models': [
        'V2M-T | 6,000 | 8,000 (75%) | 2,000 | 2,500 (80%) | 4.51 | 4.60 (98%)',
        'V2M-S* | 5,500 | 5,000 (110%) | 1,800 | 2,000 (90%) | 8.00 | 10.00 (80%)',
        'Swin-T | 5,000 | | 2,000 | | 10.00 |',
        'V2M-B* | 3,000 | | – | | – |',
    ],
    'latency': [
        'milliseconds for one image | eager | CUDA graph',
        'V2M-T | 1280.00 | 128.00',
        'DeiT-T | 640.00 | –',
    ],
    'kernels': [
        'conv forward | 57 / 1,081 | 62 / 91',
        'gate forward | | 27',
        'scan forward | 200 (73%) |',
    ],
    'operators': [
        'milliseconds | floor | CUDA C++ | mamba_ssm alone',
        'sequence, forward | 0.050 | 0.100 (50%) | 0.400 (4.00 x)',
        'sequence, forward and backward | | 1.000 | 1.500 (1.50 x)',
        'map, forward | 0.050 | 0.200 (25%) |',
        'Copies move 4.26 TB/s',
    ],
    'breakdown-t': [
        '`kernel<0>` | 24 | 20.00 | 40%',
        '2 others | 48 | 10.00 | 20%',
        'Of a step the GPU is busy for 50.0 ms, the host for 41.3 ms.',
    ],
    'mixer': ['V2M-T | cuda | 1.000 | 0.50 | 2.000 | 1.50'],
    'scaling': ['224 | – | 47.3 | 117.8 | 512', '![Time and memory by image size](images/scal'],
    'official-vim': [
        'Vim-T | 2,050 | 4,100 (2.00 x) | 800 | 1,000 (1.25 x) | 4.70 | 3.00 | 2e-07',
    ],
}


@pytest.fixture
def made(tmp_path):
    """A folder of made measurements on an H200."""
    folder = tmp_path / 'speed'
    (folder / 'h200').mkdir(parents=True)
    for name, content in MADE.items():
        (folder / 'h200' / f'{name}.json').write_text(json.dumps({**HEAD, **content}))
    (folder / 'h200' / 'graphs.part.json').write_text('{"results": [')
    return folder


def _section(text, page, name):
    """What stands between an entry's marks, without what only lines it up."""
    begin, end = page.marks(name)
    return re.sub(r' +', ' ', text.partition(begin)[2].partition(end)[0])


def test_the_page_has_what_was_measured(load, made):
    page = load('page')
    text = page.build_page((ROOT / 'docs/speed.md').read_text(), page.load_records(made))
    for name, cells in CELLS.items():
        section = _section(text, page, name)
        assert 'GPU of the test, torch 2.11, Triton 3.6, 2026-11-26:' in section
        assert [cell for cell in cells if cell not in section] == []
        assert section.count('not measured on this GPU') == 1
    assert _section(text, page, 'graphs').count('not measured on this GPU') == 2
    assert 'Not measured yet.' in _section(text, page, 'cpu')
    assert page.build_page(text, page.load_records(made)) == text


def test_the_page_has_a_section_for_cpus(load, tmp_path):
    one = (('DeiT-T', 20.0), ('V2M-T', 90), ('Swin-T', 80))
    results = [dict(model=name, milliseconds=time) for name, time in one]
    results += [dict(backend=b, milliseconds=t) for b, t in (('cpu', 10.0), ('reference', 35))]
    (tmp_path / 'cpu').mkdir()
    content = {**HEAD, 'threads': 2, 'results': results}
    (tmp_path / 'cpu' / 'cpu.json').write_text(json.dumps(content))
    page = load('page')
    text = page.build_page((ROOT / 'docs/speed.md').read_text(), page.load_records(tmp_path))
    section = _section(text, page, 'cpu')
    assert 'GPU of the test, 2 threads, torch 2.11, 2026-11-26:' in section
    assert re.search(r'V2M-T +\| 90.0 +\| 4.50 x +\| 1.12 x', section)
    assert re.search(r'35.0 +\| 10.0 +\| 3.50 x', section)


def test_goals_for_an_h200_are_not_another_gpus(load, made):
    (made / 'h200').rename(made / 'h100')
    page = load('page')
    text = page.build_page((ROOT / 'docs/speed.md').read_text(), page.load_records(made))
    section = _section(text, page, 'models')
    assert 'V2M-T | 6,000 | | 2,000 | | 4.51 |' in section
    assert 'V2M-S* | 5,500 | 5,000 (110%)' in section


def test_the_readme_has_a_few_models(load, made):
    page = load('page')
    text = page.build_readme((ROOT / 'README.md').read_text(), page.load_records(made))
    section = _section(text, page, 'training')
    assert 'On one GPU of the test (tools/train.py on images in memory' in section
    assert 'V2M-S* | 25.0 | 20.0 | 80% | 2,560 |' in section
    text = page.build_readme(text, {})
    assert 'have not been measured yet' in _section(text, page, 'training')


def test_a_page_without_marks(load):
    page = load('page')
    with pytest.raises(UserError, match='docs/speed.md needs the marks <!-- results of training'):
        page.build_page('# Speed', {})


def test_pages_say_what_the_records_say(load, capsys):
    assert load('page').main(['--check']) == 0, capsys.readouterr().out


def test_plots_are_drawn_from_the_records(script, made, monkeypatch, tmp_path):
    page = script('page')
    monkeypatch.setattr(page, 'ROOT', tmp_path)
    (tmp_path / 'docs' / 'images').mkdir(parents=True)
    page.draw_plots(page.load_records(made))
    assert (tmp_path / 'docs/images/scaling-h200.png').read_bytes().startswith(b'\x89PNG')


@pytest.fixture
def tiny(script, tmp_path, monkeypatch):
    """training.py for one small model, on the CPU."""
    training, trained = script('training'), script('trained')
    (tmp_path / 'tiny.py').write_text(TINY_DIGITS + EMA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(trained.TRAINED, 'tiny', trained.Trained(str(tmp_path / 'tiny.py')))

    def run(*arguments, sizes=((8, 8),)):
        changed = trained.Trained(str(tmp_path / 'tiny.py'), batch=2, sizes=sizes)
        monkeypatch.setitem(trained.TRAINED, 'tiny', changed)
        steps = ['--warm-up', '1', '--block', '2', '--blocks', '2']
        options = ['--device', 'cpu', '--one-process', '--models', 'tiny', '--out', 'out.json']
        assert training.main([*options, *steps, *arguments]) == 0
        (found,) = json.loads(Path('out.json').read_text())['results']
        return found

    yield run
    forget_runners()


EMA = """
custom_hooks = [dict(type='EMAHook')]
optim_wrapper['optimizer'] = dict(type='AdamW', lr=0.01, weight_decay=0.05)
optim_wrapper['paramwise_cfg'] = dict(norm_decay_mult=0.0)
model['train_cfg'] = dict(augments=dict(type='Mixup', alpha=0.8))
"""


def test_steps_are_timed_as_a_whole_and_in_parts(tiny, capsys):
    found = tiny()
    assert found['milliseconds'] > 0 and found['images_per_second'] > 0
    assert all(milliseconds > 0 for milliseconds in found['parts'].values())
    assert set(found['parts']) == {'preprocessing', 'forward', 'backward', 'optimizer', 'hooks'}
    # Between its ends a step is nothing but its parts, each of them in every step.
    assert sum(found['parts'].values()) == pytest.approx(found['sizes']['8x8'], rel=0.5)
    assert found['gpu_milliseconds'] is None and found['graphs'] is False
    assert capsys.readouterr().out.splitlines()[-1].startswith('tiny ')


def test_several_sizes_take_turns(tiny):
    assert set(tiny('--stock', sizes=((8, 8), (8, 12), (12, 8)))['sizes']) == {
        *('8x8', '8x12', '12x8')
    }


def test_every_training_gets_ours_treatment(script, monkeypatch):
    trained = script('trained')
    load = trained._load

    def with_settings(name):
        cfg = load(name)
        if name == trained.OURS['classification']:
            cfg.optim_wrapper.constructor = 'Grouped'
            cfg.optim_wrapper.optimizer.fused = True
            cfg.custom_hooks = [dict(type='CUDAGraphHook')]
        return cfg

    monkeypatch.setattr(trained, '_load', with_settings)
    for name in ('V2M-S*', 'Swin-T', 'ConvNeXt-T', 'Mask R-CNN Swin-T', 'UPerNet Swin-T'):
        training = trained.TRAINED[name]
        ours = trained.trained_config(training, stock=False, graphs=None, amp=True)
        stock = trained.trained_config(training, stock=True, graphs=None, amp=True)
        assert ours.optim_wrapper.type == stock.optim_wrapper.type == 'AmpOptimWrapper'
        assert 'constructor' not in stock.optim_wrapper
        assert 'fused' not in stock.optim_wrapper.optimizer
        hooks = [[hook['type'] for hook in cfg.custom_hooks] for cfg in (ours, stock)]
        plain = trained.trained_config(training, stock=False, graphs=None, amp=False)
        assert plain.optim_wrapper.type == 'OptimWrapper'
        dense = training.task != 'classification'
        assert [h.count('CUDAGraphHook') for h in hooks] == [not dense, 0], name
        if dense:
            continue
        assert ours.optim_wrapper.dtype == 'bfloat16'
        assert ours.optim_wrapper.constructor == 'Grouped' and ours.optim_wrapper.optimizer.fused
        assert ours.data_preprocessor.type == 'BatchedClsDataPreprocessor'
        assert 'type' not in stock.data_preprocessor
        assert 'mmv2m.datasets' in ours.custom_imports.imports
    without = trained.trained_config(trained.TRAINED['V2M-T'], False, False, amp=False)
    assert without.custom_hooks == [] and without.optim_wrapper.get('type') != 'AmpOptimWrapper'


def test_the_gpu_is_busy_once_at_a_time(script):
    union = script('profiled').union
    assert union([]) == 0
    assert union([(0, 2), (5, 6), (1, 3), (1, 2), (5.5, 7)]) == 5


def test_transforms_are_timed(script, tmp_path, monkeypatch, capsys):
    loading = script('loading')
    out = tmp_path / 'out.json'
    loading.main(['--transforms', '--files', '10', '--out', str(out)])
    assert 'images/s a core' in capsys.readouterr().out
    times = json.loads(out.read_text())['results']
    assert [found['transform'] for found in times] == [
        *('LoadImageFromFile', 'TorchRandomResizedCrop', 'RandomFlip', 'RandomErasing'),
        'PackInputs',
    ]
    assert sum(found['milliseconds'] for found in times) > 0


def test_a_training_from_files(script, tmp_path, monkeypatch):
    loading, photos = script('loading'), script('photos')
    photos.make_imagenet(tmp_path, 8, 400)
    args = loading.parse_args(['--workers', '0', '--batch', '2', '--stock'])
    cfg = loading.files_config(args, str(tmp_path))
    crop = cfg.train_dataloader.dataset.pipeline[1]
    assert crop.type == 'RandomResizedCrop' and crop.backend == 'pillow'
    assert loading.loader_speed(cfg, 2) > 0
    # The config's own data loader feeds the Runner.
    crop.scale = 32
    cfg.model.backbone = dict(
        type='V2M', arch=dict(embed_dims=8, depths=(1, 0, 0, 0), state_dims=1), img_size=32
    )
    cfg.model.head.in_channels = 8
    monkeypatch.chdir(tmp_path)
    assert loading.training_speed(cfg, 1, 2, made=False) > 0
    forget_runners()
