"""The page of the benchmarks, from made measurements."""

import json
import re
from pathlib import Path

import pytest

from mmv2m.engine.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
HEAD = dict(device='GPU of the test', torch='2.11', triton='3.6', date='2026-11-26')


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
