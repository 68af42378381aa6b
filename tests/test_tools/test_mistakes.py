"""What a user gets wrong ends in one line that says so, before anything is built."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models import TIMMBackbone
from mmpretrain.utils import require
from tiny_digits import TINY_DIGITS

import mmv2m.models  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
MODEL = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='V2M', arch=dict(embed_dims=16, depths=(1, 0, 0, 0)), img_size=8,
                  patch_size=4, out_indices=0),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=16))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
"""
IMAGENET = """
names = dict(classes=list('abcdefghij'))
sampler = dict(type='DefaultSampler')
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dict(
    type='ImageNet', data_root='data/imagenet', split='train', metainfo=names, pipeline=[])),
    batch_size=1, sampler=sampler)
val_dataloader = test_dataloader = dict(dataset=dict(
    type='ImageNet', data_root='data/imagenet', split='val', metainfo=names, pipeline=[]),
    batch_size=1, sampler=sampler)
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / 'v2m-tiny.py'
    file.write_text(MODEL + IMAGENET)
    return file


def test_config_path(train, fails, config, tmp_path):
    assert f'did you mean {str(config)!r}' in fails(train, tmp_path / 'v2m-tinny.py')
    assert 'did you mean' in fails(train, tmp_path / 'v2m-tiny')
    assert 'no folder' in fails(train, tmp_path / 'nowhere' / 'x.py')
    assert 'is a folder' in fails(train, tmp_path)


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('a = = 1', 'SyntaxError'),
        ("_base_ = 'missing.py'", 'missing.py'),
        ("custom_imports = dict(imports=['no_such_module'])", "No module named 'no_such_module'"),
        ("default_scope = 'no_such_library'", 'has no train_dataloader'),
    ],
)
def test_config_content(train, fails, tmp_path, text, says):
    file = tmp_path / 'config.py'
    file.write_text(text)
    assert says in fails(train, file)


@pytest.mark.parametrize(
    ('option', 'says'),
    [
        ('model.backbone.arch=tinny', 'arch must be one of'),
        ('model.backbone.corners="[UL,XX]"', 'XX'),
        ('model.backbone.class_token=top', 'class_token must be one of middle, edge, mean'),
        ('model.backbone.scan_backend=opencl', 'scan_backend must be one of auto, '),
        ('model.backbone.drop_path_rate=2', 'drop_path_rate must be a number'),
        ('model.backbone.colour=red', "no setting 'colour'"),
        ('model.backbone.type=ResNett', "did you mean 'ResNet'"),
        ('model.head.in_channels=7', 'in_channels is 7, but the backbone gives 16 channels'),
        ('model.head.type=LinearClsHed', "did you mean 'LinearClsHead'"),
        ('val_dataloader.dataset.type=ImageNett', "val_dataloader.dataset: 'ImageNett'"),
        ('default_scope=no_such_library', 'pip install no_such_library'),
        ('load_from=missing.pth', 'checkpoint missing.pth does not exist'),
        ('model.backbone.init_cfg.type=Pretrained', None),
        ('optim_wrapper.type=AmpOptimWrapper', 'needs a GPU; --no-amp trains without it'),
        ('data_root=/images', 'the setting is train_dataloader.dataset.data_root'),
        ('data_preprocessor.mean=[1,2]', 'mean has 2 numbers, but images have 3 channels'),
        ('data_preprocessor.std=[1,2,3,4]', 'std has 4 numbers, but images have 3 channels'),
        ('noequals', 'key=value'),
    ],
)
def test_settings(train, fails, config, monkeypatch, tmp_path, option, says):
    for split in ('train', 'val'):
        for name in 'abcdefghij':
            (tmp_path / 'data' / 'imagenet' / split / name).mkdir(parents=True)
            (tmp_path / 'data' / 'imagenet' / split / name / '1.jpg').touch()
    monkeypatch.setattr('mmv2m.engine.preflight.environment.get_device', lambda: 'cpu')
    options = [option]
    if says is None:
        options.append('model.backbone.init_cfg.checkpoint=weights.pth')
        says = 'model.backbone.init_cfg.checkpoint weights.pth does not exist'
    assert says in fails(train, config, '--cfg-options', *options)


def test_backend_that_needs_a_gpu(train, fails, config, monkeypatch):
    monkeypatch.setattr('mmv2m.engine.preflight.backend.get_device', lambda: 'cpu')
    monkeypatch.setattr('mmv2m.ops.backends.installed.INTERPRETED', False)
    line = fails(train, config, '--cfg-options', 'model.backbone.scan_backend=triton')
    assert "model.backbone: backend 'triton' cannot run here" in line
    assert "scan_backend='auto'" in line


def test_missing_custom_import(train, fails, config, monkeypatch):
    monkeypatch.delitem(MODELS._module_dict, 'V2M')
    assert "imports=['mmv2m.models']" in fails(train, config)


def test_missing_package_of_a_part(train, fails, config, monkeypatch):
    missing = require('no-such-package')(TIMMBackbone.__init__)
    monkeypatch.setattr(TIMMBackbone, '__init__', missing)
    line = fails(train, config, '--cfg-options', 'model.backbone.type=TIMMBackbone')
    assert 'model.backbone: TIMMBackbone requires no-such-package' in line


@pytest.mark.parametrize(
    ('library', 'name', 'command'),
    [
        ('mmpretrain', 'v2m-t_8xb64_in1k', 'pip install onedl-mmpretrain (or'),
        ('mmdet', 'mask-rcnn_v2m-s_3x_coco', 'pip install onedl-mmdetection (or'),
        ('mmseg', 'upernet_v2m-t_1xb16-1k_camvid', 'pip install mmsegmentation)'),
    ],
)
def test_missing_task_library(train, fails, monkeypatch, library, name, command):
    monkeypatch.setitem(sys.modules, library, None)
    line = fails(train, ROOT / 'configs' / f'{name}.py')
    assert library in line and 'which is not installed: pip install' in line
    assert command in line


@pytest.mark.parametrize('library', ['mmengine', 'mmcv'])
@pytest.mark.parametrize(
    'tool',
    [
        *('train', 'test', 'reproduce', 'study', 'build_model_zoo', 'analysis_tools/get_flops'),
        *('model_converters/official_to_mmv2m', 'model_converters/released_to_mmv2m'),
    ],
)
def test_missing_base_library(tool, library):
    code = (
        f'import runpy, sys; sys.modules[{library!r}] = None; '
        f'runpy.run_path({str(ROOT / "tools" / tool)!r} + ".py", run_name="__main__")'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error: {library}')
    assert 'Everything in mmv2m except mmv2m.ops needs mmengine and mmcv: pip' in line


def test_data(train, test, fails, config, tmp_path):
    weights = tmp_path / 'weights.pth'
    weights.touch()
    line = fails(train, config)
    where = 'train_dataloader.dataset.dataset.data_root'
    # Where ImageNet's own data comes from does not matter to other classes.
    assert line.endswith(f'{where}: {tmp_path}/data/imagenet does not exist')
    (tmp_path / 'data' / 'imagenet' / 'train').mkdir(parents=True)
    assert 'val_dataloader.dataset.split' in fails(train, config)
    assert 'test_dataloader.dataset.split' in fails(test, config, weights)
    text = config.read_text()
    config.write_text(text.replace(', metainfo=names', ''))
    assert '; expected: {train,val}/' in fails(train, config)
    config.write_text(text)
    line = fails(train, config, '--cfg-options', 'data_hint=elsewhere')
    assert line.endswith('expected: elsewhere')


@pytest.mark.parametrize(
    ('name', 'says'),
    [
        (
            'mask-rcnn_v2m-s_3x_coco',
            'coco does not exist; expected: annotations/instances_{train,v',
        ),
        ('baselines/mask-rcnn_swin-t_1x_coco', 'coco does not exist; expected: annotations/inst'),
        ('upernet_v2m-t_8xb2-160k_ade20k-512x512', 'ADEChallengeData2016 does not exist; expected'),
        ('mask-rcnn_v2m-s_1xb8-24e_nuclei', 'nuclei does not exist; expected: annotations/inst'),
        ('upernet_v2m-s-star_1xb16-1k_camvid', 'camvid does not exist; expected: img_dir/{train,'),
        ('v2m-t_1xb128_cifar10', 'expected: data/cifar10/{train,test}/<class>/<image>.png'),
    ],
)
def test_configs_say_where_their_data_belongs(train, fails, tmp_path, name, says):
    line = fails(train, ROOT / 'configs' / f'{name}.py')
    assert f'train_dataloader.dataset.data_root: {tmp_path}/data/' in line
    assert says in line


def test_checkpoint(test, fails, config, tmp_path):
    (tmp_path / 'epoch_1.pth').touch()
    assert "'epoch_1.pth'" in fails(test, config, 'epoch_11.pth')


@pytest.mark.parametrize('more', [(), ('--tta',)])
def test_weights_of_another_model(test, fails, more):
    demo = ROOT / 'configs' / 'v2m-mini_digits.py'
    torch.save(dict(state_dict={'backbone.other': torch.zeros(1)}), 'other.pth')
    line = fails(test, demo, 'other.pth', *more)
    assert 'other.pth lacks' in line and 'parameters of v2m-mini_digits.py, such as ' in line
    torch.save(dict(state_dict={'head.fc.weight': torch.zeros(10, 3)}), 'head.pth')
    assert 'size mismatch for head.fc.weight' in fails(test, demo, 'head.pth', *more)


@pytest.mark.parametrize('more', [(), ('--tta',)])
def test_weights_of_the_other_geometry(test, fails, more):
    """Their names and shapes fit, and what the model computes is wrong."""
    demo = ROOT / 'configs' / 'v2m-mini_digits.py'
    trained = Config(dict(model=dict(type='V2M', class_token='mean')))
    torch.save(dict(meta=dict(cfg=trained.pretty_text), state_dict={}), 'paper.pth')
    options = ('--cfg-options', 'model.backbone.geometry=released')
    line = fails(test, demo, 'paper.pth', *options, *more)
    says = "paper.pth was trained with geometry='paper', and model.backbone has 'released'"
    assert says in line
    trained.model.geometry = 'released'
    torch.save(dict(meta=dict(cfg=trained.pretty_text), state_dict={}), 'released.pth')
    line = fails(test, demo, 'released.pth', *more)
    assert "trained with geometry='released', and model.backbone has 'paper'" in line
    assert 'was trained with' not in fails(test, demo, 'released.pth', *options, *more)


@pytest.mark.parametrize(
    ('setting', 'then', 'now', 'by_default'),
    [
        ('corners', ['LL', 'LR', 'UL', 'UR'], ['LR', 'UL'], True),
        ('corners', ['UL', 'UR'], ['LR', 'UL'], False),
        ('class_token', 'middle', 'edge', True),
        ('class_token', 'edge', 'middle', False),
    ],
)
def test_weights_of_other_scans(test, train, fails, setting, then, now, by_default):
    """A test refuses them; a training may begin with them."""
    demo = ROOT / 'configs' / 'v2m-mini_digits.py'
    cfg = Config.fromfile(demo)
    backbone = dict(type='V2M', arch=dict(cfg.model.backbone.arch))
    if not by_default:
        backbone[setting] = then
    trained = Config(dict(model=dict(type='ImageClassifier', backbone=backbone)))
    torch.save(dict(meta=dict(cfg=trained.pretty_text), state_dict={}), 'other.pth')
    options = ['--cfg-options', f'model.backbone.{setting}={now}'.replace(' ', '')]
    says = f'other.pth was trained with {setting}={then!r}, and model.backbone has {now!r}'
    assert says in fails(test, demo, 'other.pth', *options)
    line = fails(train, demo, *options, 'load_from=other.pth')
    assert 'was trained with' not in line


@pytest.mark.parametrize(
    ('argv', 'says'),
    [
        (['--out', 'x.txt'], '.pkl'),
        (['--out', 'x.txt', '--out-item', 'metrics'], '.json'),
        (['--out-item', 'pred'], '--out PATH'),
        (['--out', 'w.pth/x.pkl'], '--out w.pth/x.pkl: its folder cannot be made'),
        (['--show-dir', 'x'], 'visualization hook'),
        (['--cfg-options', 'test_dataloader.batch_size=0'], 'batch_size must be a whole number of'),
    ],
)
def test_test_arguments(test, fails, config, tmp_path, argv, says):
    (tmp_path / 'w.pth').touch()
    assert says in fails(test, config, 'w.pth', *argv)


def test_train_arguments(train, fails, config, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    assert 'RANK is not set' in fails(train, config, '--launcher', 'pytorch')
    assert 'base_batch_size' in fails(train, config, '--auto-scale-lr')


def test_script_from_anywhere(tmp_path):
    """The real script, in its own process: nothing but the line on stderr."""
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'train.py', 'missing.py'],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == 'error: config missing.py does not exist\n'


def test_the_best_checkpoint_is_chosen_by_a_metric_that_there_is(train, capsys):
    Path('tiny.py').write_text(TINY_DIGITS)
    with pytest.raises(SystemExit) as stop:
        train(['tiny.py', '--cfg-options', 'default_hooks.checkpoint.save_best=accuracy/top5'])
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "is 'accuracy/top5', but the validation gives accuracy/top1" in line
    assert Path('work_dirs/tiny/epoch_1.pth').exists()


@pytest.mark.parametrize(
    ('line', 'name'),
    [
        (
            "custom_hooks = [dict(type='EarlyStoppingHook', monitor='accuracy/top5')]",
            'EarlyStoppingHook',
        ),
        (
            "param_scheduler = dict(type='ReduceOnPlateauLR', monitor='accuracy/top5')",
            'ReduceOnPlateauLR',
        ),
    ],
)
def test_monitored_metrics_are_given(train, capsys, line, name):
    Path('tiny.py').write_text(f'{TINY_DIGITS}{line}\n')
    with pytest.raises(SystemExit) as stop:
        train(['tiny.py'])
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{name} monitors 'accuracy/top5', but the validation gives accuracy/top1" in line
    assert Path('work_dirs/tiny/epoch_1.pth').exists()
    Path('tiny.py').write_text(Path('tiny.py').read_text().replace('top5', 'top1'))
    train(['tiny.py'])


def test_epochs_have_batches(train, capsys):
    Path('tiny.py').write_text(TINY_DIGITS)
    options = ['train_dataloader.batch_size=17', 'train_dataloader.drop_last=True']
    with pytest.raises(SystemExit) as stop:
        train(['tiny.py', '--cfg-options', *options])
    assert stop.value.code == 2
    assert 'train_dataloader has no batch' in capsys.readouterr().err.splitlines()[-1]
    assert not list(Path('work_dirs/tiny').glob('*.pth'))
