import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmpretrain.models import AverageClsScoreTTA

from mmv2m.datasets import Digits
from mmv2m.engine.hooks import CUDAGraphHook, CurvePlotHook, PredictionSheetHook
from mmv2m.engine.hooks.curve_plot import draw_curves, read_scalars
from mmv2m.engine.hooks.prediction_sheet import Prediction, draw_sheet
from mmv2m.engine.task_library import task_library_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_runner_left_over():
    yield
    for manager in (DefaultScope, MessageHub, MMLogger, Visualizer):
        manager._instance_dict.clear()


@pytest.fixture
def runner(tmp_path):
    """Makes the demo's runner on a few images, with one small block."""

    def make(name, max_epochs=1, tta=False, **settings):
        cfg = Config.fromfile(ROOT / 'configs/v2m-mini_digits.py')
        train_cfg = settings.pop('train_cfg', dict(by_epoch=True, max_epochs=max_epochs))
        cfg.merge_from_dict(
            {
                'work_dir': str(tmp_path),
                'experiment_name': name,
                'train_dataloader.dataset.indices': 64,
                'train_dataloader.batch_size': 16,
                'val_dataloader.dataset.indices': 24,
                'test_dataloader.dataset.indices': 24,
                'default_hooks.logger.interval': 2,
                **settings,
            }
        )
        cfg.model.backbone = dict(
            type='V2M',
            arch=dict(embed_dims=8, depths=(1, 0, 0, 0), state_dims=1),
            img_size=8,
            patch_size=4,
        )
        cfg.model.head.in_channels = 8
        cfg.train_cfg = train_cfg
        if tta:
            cfg.pop('tta_pipeline')  # the library's own views: the image and its mirror image
            task_library_of(cfg).enable_tta(cfg)
        return Runner.from_cfg(cfg)

    return make


def _write_run(work_dir, name, *entries):
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    folder.joinpath('scalars.json').write_text('\n'.join(map(json.dumps, entries)) + '\n')


def _train_entry(iteration, loss):
    return dict(lr=0.1, time=1.0, data_time=0.1, loss=loss, epoch=1, iter=iteration, step=iteration)


RUNS = [
    dict(name='20260101_000000', iteration=0, position=0),
    dict(name='20260102_000000', iteration=10, position=1),
]


def test_scalars_are_placed_by_epoch(tmp_path):
    _write_run(
        tmp_path,
        '20260101_000000',
        _train_entry(5, 2.0),
        _train_entry(10, 1.0),
        {'accuracy/top1': 50.0, 'data_time': 0.1, 'time': 0.2, 'step': 1},
    )
    losses, metrics = read_scalars(tmp_path, RUNS[:1], epoch_length=10)
    assert losses == {'loss': {0.5: 2.0, 1.0: 1.0}}
    assert metrics == {'accuracy/top1': {1: 50.0}}


def test_what_a_resume_threw_away_is_not_drawn(tmp_path):
    first = [_train_entry(i, 3.0) for i in (5, 10, 15, 20)]
    scores = [{'accuracy/top1': 10.0 * step, 'step': step} for step in (1, 2)]
    _write_run(tmp_path, '20260101_000000', *first, *scores)
    _write_run(tmp_path, '20260102_000000', _train_entry(15, 1.0))
    losses, metrics = read_scalars(tmp_path, RUNS)
    assert losses == {'loss': {5: 3.0, 10: 3.0, 15: 1.0}}
    assert metrics == {'accuracy/top1': {1: 10.0}}


def test_curves_show_each_name_and_the_last_metric():
    figure = draw_curves({'loss': {2: 1.0, 1: 2.0}}, {'accuracy/top1': {1: 50.0, 2: 97.5}}, 'epoch')
    loss, metric = figure.axes
    assert loss.lines[0].get_xdata().tolist() == [1, 2]
    assert loss.lines[0].get_ydata().tolist() == [2.0, 1.0]
    assert loss.get_xlabel() == metric.get_xlabel() == 'epoch'
    assert all(tick.is_integer() for axes in figure.axes for tick in axes.get_xticks())
    assert [t.get_text() for t in metric.get_legend().get_texts()] == ['accuracy/top1']
    assert [t.get_text() for t in metric.texts] == ['97.50']


@pytest.fixture
def drawn(monkeypatch):
    """Positions of the curves and their unit, for each picture that was drawn."""
    pictures = []

    def draw(losses, metrics, unit):
        pictures.append((sorted(losses['loss']), sorted(metrics['accuracy/top1']), unit))
        return draw_curves(losses, metrics, unit)

    monkeypatch.setattr('mmv2m.engine.hooks.curve_plot.draw_curves', draw)
    return pictures


def test_curves_go_on_after_a_resume_and_leave_out_other_trainings(runner, drawn, tmp_path):
    runner('other', max_epochs=3).train()
    assert imread(tmp_path / 'curves.png').std() > 0
    time.sleep(1)  # a run's folder is named by the second
    runner('first').train()
    time.sleep(1)
    runner('second', max_epochs=2, resume=True).train()
    assert drawn == [
        ([0.5, 1.0, 1.5, 2.0, 2.5, 3.0], [1, 2, 3], 'epoch'),
        ([0.5, 1.0], [1], 'epoch'),
        ([0.5, 1.0, 1.5, 2.0], [1, 2], 'epoch'),
    ]


def test_curves_of_a_training_by_iterations(runner, drawn):
    by_iteration = runner(
        'iterations',
        train_cfg=dict(by_epoch=False, max_iters=4, val_interval=2),
        param_scheduler=[],
        log_processor=dict(by_epoch=False),
        **{'default_hooks.logger.log_metric_by_epoch': False},
    )
    by_iteration.train()
    assert drawn == [([2, 4], [2, 4], 'iteration')]


def test_testing_paints_a_sheet(runner, tmp_path):
    runner('test').test()
    assert imread(tmp_path / 'predictions.png').std() > 0


def _batch(truths, labels):
    inputs = [torch.full((3, 8, 8), i, dtype=torch.uint8) for i in range(len(truths))]
    outputs = [
        SimpleNamespace(
            gt_label=torch.tensor([truth]),
            pred_label=torch.tensor([label]),
            pred_score=torch.eye(10)[label] * 0.75,
        )
        for truth, label in zip(truths, labels, strict=True)
    ]
    return dict(inputs=inputs), outputs


@pytest.fixture
def shown(monkeypatch):
    """The predictions on every sheet that was painted."""
    predictions = []

    def draw(new, *args):
        predictions.extend(new)
        return draw_sheet(new, *args)

    monkeypatch.setattr('mmv2m.engine.hooks.prediction_sheet.draw_sheet', draw)
    return predictions


def test_sheet_under_test_time_augmentation(runner, shown, tmp_path):
    augmented = runner('tta', tta=True)
    metrics = augmented.test()
    assert imread(tmp_path / 'predictions.png').std() > 0
    assert len(shown) == 24
    held_out = Digits('test')
    images = {held_out[i]['img'].tobytes(): held_out[i]['gt_label'] for i in range(24)}
    assert {p.image.tobytes(): p.truth for p in shown} == images  # the images, not their mirrors
    right = sum(p.truth == p.label for p in shown)
    assert 100 * right / 24 == pytest.approx(metrics['accuracy/top1'])


def test_merged_views_show_the_first_with_the_merged_prediction():
    classifier = torch.nn.Module()
    classifier.data_preprocessor = SimpleNamespace(to_rgb=True)
    classifier.test_step = None  # asked for, but not called here
    model = AverageClsScoreTTA(classifier)
    batch, outputs = _batch([1, 2], [1, 3])
    mirrored = [torch.zeros_like(image) for image in batch['inputs']]
    batch['inputs'][1][2] = 200
    outputs[0].pred_label[0] = 7  # what the first view alone said
    hook = PredictionSheetHook()
    views = dict(inputs=[batch['inputs'], mirrored])
    hook.after_test_iter(SimpleNamespace(model=model), 0, views, outputs)
    assert [(p.truth, p.label) for p in hook._right + hook._wrong] == [(1, 1), (2, 3)]
    assert hook._wrong[0].image[0, 0].tolist() == [200, 1, 1]


def test_wrong_ones_come_first_however_late_they_are(shown, tmp_path):
    runner = SimpleNamespace(
        model=SimpleNamespace(data_preprocessor=SimpleNamespace(to_rgb=False)),
        work_dir=str(tmp_path),
        logger=SimpleNamespace(info=lambda text: None),
        test_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo={})),
    )
    hook = PredictionSheetHook(num_images=3, columns=2)
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, *_batch([1, 2, 3, 4], [1, 2, 3, 4]))
    hook.after_test_iter(runner, 1, *_batch([5], [6]))
    hook.after_test(runner)
    assert [(p.truth, p.label) for p in shown] == [(5, 6), (1, 1), (2, 2)]
    assert shown[0].score == pytest.approx(0.75)
    hook.before_test(runner)
    (tmp_path / 'predictions.png').unlink()
    hook.after_test(runner)
    assert not (tmp_path / 'predictions.png').exists()


def test_sheet_marks_the_wrong_ones_and_names_the_truth():
    image = np.zeros((8, 8, 3), np.uint8)
    figure = draw_sheet(
        [Prediction(image, 1, 0, 0.6), Prediction(image, 1, 1, 0.9)], ('cat', 'dog'), columns=2
    )
    wrong, right = (axes.title for axes in figure.axes)
    assert wrong.get_text() == 'cat  60%\nis dog' and right.get_text() == 'dog  90%'
    assert wrong.get_color() != right.get_color()


@pytest.mark.parametrize('hook', [CurvePlotHook, PredictionSheetHook])
def test_a_hook_that_cannot_draw_says_so_at_once(hook, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(ImportError, match=f'{hook.__name__} draws with .* pip install matplotlib'):
        hook()


def test_configs_without_these_hooks_need_no_matplotlib():
    code = 'import sys; sys.modules["matplotlib"] = None; import mmv2m.engine'
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


@pytest.mark.parametrize(('to_rgb', 'red'), [(False, 0), (True, 2)])
def test_colours_are_those_that_the_model_sees(to_rgb, red):
    hook = PredictionSheetHook()
    runner = SimpleNamespace(
        model=SimpleNamespace(data_preprocessor=SimpleNamespace(to_rgb=to_rgb))
    )
    batch, outputs = _batch([1], [1])
    batch['inputs'][0][red] = 200
    hook.after_test_iter(runner, 0, batch, outputs)
    assert hook._right[0].image[0, 0].tolist() == [200, 0, 0]


def test_cuda_graphs_that_there_are_not_are_said_in_the_log():
    lines = []
    model = torch.nn.ModuleDict(dict(backbone=torch.nn.Linear(1, 1)))
    hook = CUDAGraphHook()
    hook.before_train(SimpleNamespace(model=model, logger=SimpleNamespace(warning=lines.append)))
    assert lines == ['no CUDA graphs: the model is not on an NVIDIA GPU']
