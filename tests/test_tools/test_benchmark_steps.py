"""The benchmark of whole training steps, with a small model on a CPU."""

import json
from pathlib import Path

import pytest
from runners import forget_runners
from tiny_digits import TINY_DIGITS


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
    assert 'images/s per core' in capsys.readouterr().out
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
