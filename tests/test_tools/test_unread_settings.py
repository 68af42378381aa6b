"""Settings that nothing reads, keys that are misspelt, and mixed precision as a class."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from tiny_digits import TINY_DIGITS

from mmv2m.engine.errors import UserError
from mmv2m.engine.preflight.schedule import check_schedule
from mmv2m.engine.top_level import check_top_level
from mmv2m.models import V2M, VMamba

CLASSES = """
from mmengine.dataset import DefaultSampler
from mmengine.optim import AmpOptimWrapper
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.models import ImageClassifier, LinearClsHead
from torch.optim import SGD

from mmv2m.datasets import Digits
from mmv2m.models import V2M

default_scope = 'mmpretrain'
data_preprocessor = dict(num_classes=10, mean=[78.0] * 3, std=[96.0] * 3)
model = dict(
    type=ImageClassifier,
    backbone=dict(type=V2M, arch=dict(embed_dims=8, depths=(1, 0, 0, 0), state_dims=2),
                  img_size=8, patch_size=4, out_indices=0),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=8))
train_dataloader = dict(
    batch_size=8, num_workers=0, sampler=dict(type=DefaultSampler),
    dataset=dict(type=Digits, split='train', indices=16, pipeline=[dict(type=PackInputs)]))
optim_wrapper = dict(type=AmpOptimWrapper, optimizer=dict(type=SGD, lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=1)
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / 'tiny.py'
    file.write_text(TINY_DIGITS)
    return file


@pytest.mark.parametrize(
    ('option', 'says'),
    [
        ('max_epochs=1', 'max_epochs would change nothing: the setting is train_cfg.max_epochs'),
        ('optimizer.lr=1', 'the setting is optim_wrapper.optimizer.lr'),
        ('modle.head.num_classes=3', "'modle' at the top level of a config; did you mean 'model'"),
        ('lr=1', 'the setting is optim_wrapper.optimizer.lr'),
        ('colour=red', "nothing reads 'colour' at the top level of a config"),
        ('custom_imports.imports=x', 'the setting is custom_imports in the config file'),
    ],
)
def test_options(train, test, fails, config, option, says):
    assert f'--cfg-options {option.split("=")[0]} would change nothing' in fails(
        train, config, '--cfg-options', option
    )
    assert says in fails(test, config, 'w.pth', '--cfg-options', option)


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('max_epochs = 1', 'nothing reads max_epochs: the setting is train_cfg.max_epochs'),
        ('pipeline = []', "nothing reads 'pipeline' at the top level"),
        ('modell = dict(head=dict(topk=1))', "did you mean 'model'"),
        ('custom_hook = [dict()]', "did you mean 'custom_hooks'"),
    ],
)
def test_files(train, fails, config, tmp_path, line, says):
    config.write_text('max_epochs = 3\n' + TINY_DIGITS)
    mine = tmp_path / 'mine.py'
    mine.write_text(f"_base_ = 'tiny.py'\n{line}\n")
    assert says in fails(train, mine)


def test_names_of_ones_own(config, tmp_path):
    """Those that a file uses, or that are nobody's."""
    config.write_text('max_epochs = 3\n' + TINY_DIGITS)
    mine = tmp_path / 'mine.py'
    mine.write_text(
        "_base_ = 'tiny.py'\nmax_epochs = 2\ntrain_cfg = dict(max_epochs=max_epochs)\n"
        'note = dict(a=1)\ntest_pipeline = []\ntta_pipeline = []\ndata_hint = "here"\n'
    )
    check_top_level(Config.fromfile(mine), ['train_cfg.max_epochs', 'tta_model.type'])
    # Written by mmengine: every name, none of them used.
    Config.fromfile(mine).dump('dumped.py')
    check_top_level(Config.fromfile('dumped.py'))


@pytest.mark.parametrize(
    ('option', 'says'),
    [
        (
            'train_cfg.max_epoch=1',
            "train_cfg (EpochBasedTrainLoop): no setting 'max_epoch'; did you",
        ),
        ('optim_wrapper.optimizer.lrr=1', "optimizer (SGD): no setting 'lrr'; did you mean 'lr'"),
        ('optim_wrapper.optimizer.type=Adamw', "'Adamw' is not in the optimizer registry"),
        ('optim_wrapper.clip_gradd=1', "optim_wrapper (OptimWrapper): no setting 'clip_gradd'"),
        ('train_dataloader.batch_sise=1', "train_dataloader (DataLoader): no setting 'batch_sise'"),
        (
            'train_dataloader.dataset.splitt=1',
            "dataset (Digits): no setting 'splitt'; did you mean",
        ),
        (
            'train_dataloader.dataset.pipeline.0.type=Pack',
            "dataset.pipeline[0]: 'Pack' is not in the",
        ),
        ('val_evaluator.type=Acuracy', "val_evaluator: 'Acuracy' is not in the metric registry of"),
        ('default_hooks.checkpoint.intervall=1', "checkpoint (CheckpointHook): no setting 'interv"),
        ('custom_hooks=[{}]', "custom_hooks[0] is the word '{}', where a dict belongs"),
        ('model.data_preprocessor.mean.0=1', 'a key goes on below a number or a word of a list'),
        ('param_scheduler=[dict(a=1,b=2)]', 'a value is a number, a word, or a list or tuple of'),
        ('optim_wrapper.clip_grad.max_nrom=5', "clip_grad: no setting 'max_nrom'; did you mean"),
        ('optim_wrapper.clip_grad.type=norms', 'clip_grad.type must be norm or value, but is'),
        ('optim_wrapper.clip_grad.type=value', 'clip_grad of type value needs clip_value'),
        ('optim_wrapper.clip_grad=5', 'clip_grad is 5, where a dict such as dict(max_norm=5.0)'),
        ('model.head.num_clases=3', "head (LinearClsHead): no setting 'num_clases'; did you mean"),
    ],
)
def test_misspelt_keys(train, fails, config, option, says):
    assert says in fails(train, config, '--cfg-options', option)


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        (
            "head'] = dict(type='LinearClsHead')",
            '(LinearClsHead) needs num_classes and in_channels',
        ),
        ("head'] = dict(in_channels=16)", 'model.head has no type, which says what it is'),
        ("backbone'] = dict(arch='tiny')", 'model.backbone has no type, which says what it is'),
        ("head'] = None", 'model has no head, which gives the scores of classes'),
        ("head']['loss'] = dict(type='CrossEntropyLos')", "head.loss: 'CrossEntropyLos' is not in"),
        ("head']['init_cfg'] = dict(type='Norml')", "head.init_cfg: 'Norml' is not in the weight"),
        (
            "data_preprocessor']['bgr2rgb'] = True",
            'data_preprocessor (ClsDataPreprocessor): no set',
        ),
        ("data_preprocessor']['mean'] = 'grey'", 'data_preprocessor (ClsDataPreprocessor): new()'),
        ("data_preprocessor']['std'] = None", 'please specify both `mean` and `std`'),
        (
            "data_preprocessor']['type'] = 'Cls'\ndata_preprocessor = dict(to_rgb=True)",
            "model.data_preprocessor: 'Cls' is not in the model registry",
        ),
        (
            "data_preprocessor']['to_rgb'] = False\ndata_preprocessor = dict(to_rgb=True)",
            'data_preprocessor.to_rgb would change nothing, since the model has its own',
        ),
        (
            "head']['topk'] = 1\ndata_preprocessor = dict(mean=(78.0, 78.0, 78.0), to_rgb=True)",
            'data_preprocessor.to_rgb would change nothing, since the model has its own',
        ),
        (
            "train_cfg'] = dict(augment=[])",
            "model.train_cfg (RandomBatchAugment): no setting 'augm",
        ),
        (
            "train_cfg'] = dict(augments=dict(type='Mix'))",
            "augments: 'Mix' is not in the batch aug",
        ),
        (
            "train_cfg'] = dict(augments=[dict(type='Mixup', alpa=1.0)])",
            "no setting 'alpa'; did yo",
        ),
        (
            "train_cfg'] = dict(augments=dict(type='Mixup', alpha=-1.0))",
            'it refuses the settings {',
        ),
    ],
)
def test_parts_of_the_model(train, fails, config, line, says):
    config.write_text(f"{TINY_DIGITS}model['{line}\n")
    assert says in fails(train, config)


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        (
            "train_dataloader['sampler']['type'] = 'Sampler'",
            "sampler: 'Sampler' is not in the data",
        ),
        (
            "train_dataloader['sampler'] = dict(shuffle=True)",
            'train_dataloader.sampler has no type',
        ),
        ('pipeline[0] = dict(meta_keys=[])', 'dataset.pipeline[0] has no type, which says what it'),
        ("train_dataloader['sampler']['shufle'] = True", "no setting 'shufle'; did you mean"),
        ("del train_dataloader['sampler']", 'train_dataloader has no sampler: add sampler=dict('),
        ("train_dataloader['collate_fn'] = dict(type='collate')", "'collate' is not in the functi"),
        ("visualizer['type'] = 'Universal'", "visualizer: 'Universal' is not in the visualizer"),
        ("vis_backends[0]['type'] = 'Local'", "visualizer.vis_backends[0]: 'Local' is not in the"),
        ("vis_backends[0]['type'] = 'WandbVisBackend'", 'needs wandb, which is not installed: pip'),
        ('log_processor = dict(window_sise=3)', "log_processor (LogProcessor): no setting 'window"),
        ("val_cfg = dict(type='ValLop')", "val_cfg: 'ValLop' is not in the loop registry"),
        ('val_cfg = dict(fp17=True)', "val_cfg (ValLoop): no setting 'fp17'; did you mean 'fp16'"),
        ('randomness = dict(sead=1)', "randomness: no setting 'sead'; did you mean 'seed'"),
        ('env_cfg = dict(cudnn_benchmrk=True)', "env_cfg: no setting 'cudnn_benchmrk'; did you"),
        (
            'env_cfg = dict(mp_cfg=dict(start=1))',
            "env_cfg.mp_cfg: no setting 'start'; there are mp",
        ),
        (
            "log_level = 'INF'",
            "log_level must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, but is 'INF'",
        ),
    ],
)
def test_parts_beside_the_model(train, fails, config, monkeypatch, line, says):
    monkeypatch.setattr('mmv2m.engine.preflight.keys.find_spec', lambda package: None)
    config.write_text(f'{TINY_DIGITS}{line}\n')
    assert says in fails(train, config)


@pytest.mark.parametrize(
    ('hook', 'says'),
    [
        ("'EMAHook'", "custom_hooks[0] is the word 'EMAHook', where a dict belongs"),
        ('dict(momentum=0.1)', 'custom_hooks[0] has no type'),
        (
            "dict(type='EMAHook', ema_type='ExponentialMovingAvarage')",
            "custom_hooks[0].ema_type: 'ExponentialMovingAvarage' is not in the model registry",
        ),
        ("dict(type='EMAHook', ema_type='V2M')", 'is V2M, which is no average of the weights'),
        ("dict(type='EMAHook', momentm=0.1)", "no setting 'momentm'; did you mean 'momentum'?"),
        ("dict(type='EMAHook', momentum=2)", 'momentum must be in range (0.0, 1.0)'),
        ("dict(type='EMAHook', begin_epoch=9)", 'begin_epoch is 9, but train_cfg.max_epochs is 2'),
        (
            "dict(type='EMAHook', priority='VERYLOW')",
            "no priority 'VERYLOW'; did you mean 'VERY_LO",
        ),
        ("dict(type='EMAHook', priority=300)", 'priority must be from 0, the first, to 100'),
        ("dict(type='EarlyStoppingHook')", "required positional argument: 'monitor'"),
    ],
)
def test_custom_hooks(train, fails, config, hook, says):
    config.write_text(f'{TINY_DIGITS}custom_hooks = [{hook}]\n')
    assert says in fails(train, config)


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        (
            "checkpoint'] = dict(interval=1)",
            "checkpoint has no type; mmengine's own is type='Check",
        ),
        (
            "chekpoint'] = dict(type='CheckpointHook')",
            "name 'chekpoint'; did you mean 'checkpoint'",
        ),
        ("logger']['priority'] = 'LOWW'", "default_hooks.logger: no priority 'LOWW'; did you mean"),
        ("checkpoint'].update(save_best='a', rule='more')", 'rule must be greater, less or None'),
    ],
)
def test_default_hooks(train, fails, config, line, says):
    config.write_text(f"{TINY_DIGITS}default_hooks['{line}\n")
    assert says in fails(train, config)


def test_hooks_that_there_are(train, config):
    average = "dict(type='EMAHook', momentum=0.1, evaluate_on_origin=True, priority='above_normal')"
    config.write_text(
        f"{TINY_DIGITS}custom_hooks = [{average}]\ndefault_hooks['timer'] = None\n"
        'train_cfg = dict(by_epoch=True, max_epochs=1)\n'
    )
    train([str(config)])


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('', 'nothing would be saved before the end: set by_epoch=False in default_hooks.checkp'),
        (
            "default_hooks['checkpoint']['by_epoch'] = False\n"
            "param_scheduler = [dict(type='MultiStepLR', milestones=[2])]\n",
            'param_scheduler[0] (MultiStepLR) counts epochs and train_cfg counts iterations',
        ),
    ],
)
def test_epochs_are_not_counted_by_a_training_by_iterations(train, fails, config, line, says):
    config.write_text(TINY_DIGITS + 'train_cfg = dict(by_epoch=False, max_iters=4)\n' + line)
    assert says in fails(train, config)


def test_schedules_of_a_training_by_iterations(config):
    cfg = Config.fromfile(config)
    cfg.train_cfg = dict(by_epoch=False, max_iters=4)
    cfg.default_hooks.checkpoint.by_epoch = False
    cfg.param_scheduler = [
        dict(type='LinearLR', by_epoch=False, end=2),
        dict(type='CosineAnnealingLR', T_max=2, convert_to_iter_based=True),
        dict(type='ReduceOnPlateauLR', monitor='accuracy/top1'),  # counts validations
    ]
    check_schedule(cfg)


@pytest.mark.parametrize(
    ('settings', 'says'),
    [
        (dict(base_batch_sise=256), "no setting 'base_batch_sise'; did you mean 'base_batch_size'"),
        (dict(enable=True), 'auto_scale_lr needs base_batch_size'),
        (dict(enable=True, base_batch_size=0), 'but it is 0'),
    ],
)
def test_scaled_learning_rates(config, settings, says):
    cfg = Config.fromfile(config)
    cfg.auto_scale_lr = settings
    with pytest.raises(UserError) as error:
        check_schedule(cfg)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ('wrapper', 'says'),
    [
        (dict(constructor='GroupedOptimConstructor'), "did you mean 'GroupedOptimWrapperConstr"),
        (dict(paramwise_cfg=dict(layer_decay_rate=0.5)), 'what DefaultOptimWrapperConstructor rea'),
        (dict(paramwise_cfg=dict(norm_decay=0.0)), "did you mean 'norm_decay_mult'"),
        (
            dict(paramwise_cfg=dict(custom_keys={'.A_log': dict(decay_mul=0.0)})),
            "custom_keys['.A_log']: no setting 'decay_mul'; did you mean 'decay_mult'?, and SGD",
        ),
        (
            dict(
                constructor='GroupedOptimWrapperConstructor',
                paramwise_cfg=dict(custom_keys={'.D': dict(lr=1.0, lr_scale=2.0)}),
            ),
            "no setting 'lr_scale'",
        ),
    ],
)
def test_settings_by_parameter(config, wrapper, says):
    cfg = Config.fromfile(config)
    cfg.optim_wrapper.update(wrapper)
    with pytest.raises(UserError) as error:
        check_schedule(cfg)
    assert says in str(error.value)


def test_settings_of_a_group_that_only_the_optimizer_reads(config):
    cfg = Config.fromfile(config)
    excluded = dict(decay_mult=0.0, lars_exclude=True)
    cfg.optim_wrapper.update(
        optimizer=dict(type='LARS', lr=1.0), paramwise_cfg=dict(custom_keys={'bn': excluded})
    )
    check_schedule(cfg)


def test_misspelt_keys_in_python():
    for build in (V2M, lambda **settings: MODELS.build(dict(type='V2M', **settings))):
        with pytest.raises(TypeError, match="V2M: no setting 'achr'; did you mean 'arch'"):
            build(achr='tiny')
    with pytest.raises(TypeError, match="VMamba: no setting 'colour'; there are "):
        VMamba(colour='red')
    with pytest.raises(ValueError, match='V2M: arch must be one of'):
        V2M('tinny')


def test_mixed_precision_as_a_class(train, fails, tmp_path, monkeypatch):
    monkeypatch.setattr('mmv2m.engine.preflight.environment.get_device', lambda: 'cpu')
    mine = tmp_path / 'mine.py'
    mine.write_text(CLASSES)
    assert 'needs a GPU; --no-amp trains without it' in fails(train, mine)
    train([str(mine), '--no-amp', '--work-dir', 'run'])
    assert Path('run/epoch_1.pth').exists()
