"""Checkpoints that a training or a test is given: official, damaged, of something else, hostile."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from tiny_digits import TINY_DIGITS

import mmv2m.models  # noqa: F401
from mmv2m.utils.released_weights import _released_names

INIT = 'model.backbone.init_cfg'
RELEASED = """
model['backbone'] = dict(type='V2M', img_size=8, patch_size=4, geometry='released',
    class_token='mean', arch=dict(embed_dims=16, depths=(1, 1, 1, 1), state_dims=2))
train_cfg['max_epochs'] = 1
optim_wrapper['optimizer']['lr'] = 0.0
"""


class Runs:
    """Would run a command where it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def config(tmp_path):
    file = tmp_path / 'tiny.py'
    file.write_text(TINY_DIGITS + RELEASED)
    return str(file)


@pytest.fixture
def weights(config):
    """The weights of the config's model, none of them as they are initialised."""
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    return {name: torch.randn_like(value) for name, value in model.state_dict().items()}


def uses(config, file):
    """What a checkpoint may be given to: a name, the tool, its arguments."""
    init = [f'{INIT}.type=Pretrained', f'{INIT}.checkpoint={file}']
    return [
        ('test', [config, file]),
        ('train', [config, '--resume', file]),
        ('train', [config, '--cfg-options', f'load_from={file}']),
        ('train', [config, '--cfg-options', *init]),
        ('train', [config, '--cfg-options', *init, f'{INIT}.prefix=backbone.']),
    ]


def test_files_that_are_no_checkpoints(load_main, fails, config):
    for content, words in (
        ('', 'the file is empty'),
        ('version https://git-lfs.github.com/spec/v1\n', 'a Git LFS pointer'),
        ('<!DOCTYPE html>', 'an HTML page'),
    ):
        Path('weights.pth').write_text(content)
        for tool, argv in uses(config, 'weights.pth'):
            line = fails(load_main(tool), *argv)
            assert 'weights.pth: not a checkpoint: ' in line and words in line
    # What the last run of a folder left behind is read too.
    Path('run').mkdir()
    Path('run/last_checkpoint').write_text('weights.pth')
    assert 'an HTML page' in fails(load_main('train'), config, '--work-dir', 'run', '--resume')


def test_no_checkpoint_runs_code(load_main, fails, config, weights):
    torch.save(dict(state_dict=weights, message_hub=Runs('touch trace')), 'evil.pth')
    for tool, argv in uses(config, 'evil.pth'):
        line = fails(load_main(tool), *argv)
        assert 'evil.pth: refused' in line and 'posix.system' in line
        assert not Path('trace').exists()


def test_weights_of_something_else(train, fails, config, weights):
    backbone = {k: v for k, v in weights.items() if k.startswith('backbone.')}
    torch.save(dict(state_dict=weights), 'own.pth')
    torch.save({k.removeprefix('backbone.'): v for k, v in backbone.items()}, 'bare.pth')
    torch.save({f'student.{k}': v for k, v in backbone.items()}, 'student.pth')
    torch.save({k.replace('.ssm.all.', '.'): v for k, v in backbone.items()}, 'vmamba.pth')
    init = [f'{INIT}.type=Pretrained', f'{INIT}.checkpoint=']
    for options, words in (
        (['load_from=bare.pth'], 'load them by the init_cfg of the backbone'),
        (['load_from=vmamba.pth'], "type='VMamba' would fit"),
        ([init[0], f'{init[1]}student.pth'], "prefix='student.backbone.' would fit"),
        ([init[0], f'{init[1]}own.pth', f'{INIT}.prefix=bone'], "begins with prefix='bone'"),
    ):
        assert words in fails(train, config, '--cfg-options', *options)
    line = fails(train, config, '--resume', 'own.pth')
    assert 'own.pth holds no training to resume' in line


def test_an_official_file_as_it_is(train, test, fails, config, weights):
    official = {old: weights[new] for old, new in _released_names(4).items()}
    official['pos_embed'] = official['pos_embed'].flatten(1, 2)
    torch.save(dict(model=official, epoch=3), 'official.pth')
    # Names and shapes fit the paper's geometry too.
    for tool, argv in (
        (test, [config, 'official.pth', '--cfg-options']),
        (train, [config, '--cfg-options', 'load_from=official.pth']),
    ):
        line = fails(tool, *argv, 'model.backbone.geometry=paper')
        assert "trained with geometry='released', and model.backbone has 'paper'" in line
    assert 'accuracy/top1' in test([config, 'official.pth', '--work-dir', 'tested'])
    (log,) = Path('tested').glob('*/*.log')
    assert log.read_text().count('holds official weights (v2m), which are converted') == 1
    for i, (tool, argv) in enumerate(uses(config, 'official.pth')):
        if tool == 'train' and '--resume' not in argv:
            train([*argv, '--work-dir', f'run{i}'])
            trained = torch.load(f'run{i}/epoch_1.pth', weights_only=False)['state_dict']
            part = 'backbone.' if i > 2 else ''
            for name in (k for k in weights if k.startswith(part)):
                assert torch.equal(trained[name], weights[name])
    # mmengine's own checkpoints hold more than tensors, and go on.
    train([config, '--work-dir', 'run2', '--resume', '--cfg-options', 'train_cfg.max_epochs=2'])
    assert Path('run2/epoch_2.pth').exists()
