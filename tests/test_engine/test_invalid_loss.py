"""A training stops at a loss that is not finite, names its images, and keeps what it saved."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner
from runners import forget_runners
from tiny_digits import TINY_DIGITS

from mmv2m.engine.errors import TrainingStoppedError
from mmv2m.engine.hooks import StopAtInvalidLossHook

BAD = 11
LATE = dict(type='DeferredRuntimeInfoHook')


@TRANSFORMS.register_module()
class SpoilImage:
    """Makes one image of the data NaN."""

    def __call__(self, results):
        results['img'] = results['img'].astype('float32')
        if results['sample_idx'] == BAD:
            results['img'][:2] = float('nan')
        return results


class Spoil(Hook):
    """Spoils what a step leaves behind."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.step and self.what == 'gradient':
            weight = runner.model.head.fc.weight
            handle = weight.register_hook(lambda grad: grad * float('nan'))
            self.handle = handle
        elif hasattr(self, 'handle'):
            self.handle.remove()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.step and self.what == 'weights':
            with torch.no_grad():
                runner.model.head.fc.bias.fill_(float('inf'))


def runner(tmp_path, *hooks, late=True, bad_image=False, **settings):
    file = tmp_path / 'tiny.py'
    file.write_text(TINY_DIGITS)
    cfg = Config.fromfile(file)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.default_hooks.invalid_loss = dict(type='StopAtInvalidLossHook')
    cfg.default_hooks.checkpoint.update(type='SafeCheckpointHook', by_epoch=False, max_keep_ckpts=1)
    if late:
        cfg.default_hooks.runtime_info = LATE
    if bad_image:
        pipeline = [dict(type='SpoilImage'), dict(type='PackInputs')]
        cfg.train_dataloader.dataset.pipeline = pipeline
        cfg.train_dataloader.sampler.shuffle = False
    cfg.merge_from_dict(dict(val_cfg=None, val_dataloader=None, val_evaluator=None, **settings))
    forget_runners()
    made = Runner.from_cfg(cfg)
    for hook in hooks:
        made.register_hook(hook)
    return made


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / 'run').glob('*.pth'))


@pytest.mark.parametrize('late', [True, False])
@pytest.mark.parametrize('often', [1, 100])
def test_an_image_that_is_nan(tmp_path, late, often):
    """Image 11 is in the second batch of 8."""
    settings = {'default_hooks.logger.interval': often, 'train_cfg.max_epochs': 1}
    run = runner(tmp_path, late=late, bad_image=True, **settings)
    with pytest.raises(TrainingStoppedError) as error:
        run.train()
    says = str(error.value)
    assert 'the loss is nan in iteration 2, epoch 1; sample_idx 11 has pixels that are' in says
    names = ', '.join(f'sample_idx {i}' for i in range(8, 16))
    assert f'the images were {names}; the last good checkpoint is {tmp_path}' in says
    assert says.endswith('run/iter_1.pth') and files(tmp_path) == ['iter_1.pth']
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert f'The images of iteration 2: {names}\n' in log.read_text()


def test_what_is_found_one_step_late(tmp_path):
    """The step that is named is that of the loss, not the one in which it is read."""
    settings = {
        'default_hooks.checkpoint.interval': 100,
        'default_hooks.logger.interval': 100,
        'train_dataloader.batch_size': 2,
    }
    with pytest.raises(TrainingStoppedError) as error:
        runner(tmp_path, bad_image=True, **settings).train()
    says = str(error.value)
    assert 'in iteration 6, epoch 1; sample_idx 11 has' in says
    assert 'the images were sample_idx 10, sample_idx 11; no checkpoint was saved' in says


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    """The step before the loss would say it."""
    with pytest.raises(TrainingStoppedError, match='the parameters are not finite in iteration 3'):
        runner(tmp_path, Spoil(2, 'weights')).train()
    assert files(tmp_path) == ['iter_2.pth']


def test_norms_of_gradients(tmp_path):
    clip = {'optim_wrapper.clip_grad': dict(max_norm=1.0)}
    with pytest.raises(TrainingStoppedError, match='norm of the gradients is nan in iteration 2'):
        runner(tmp_path, Spoil(1, 'gradient'), **clip).train()
    assert files(tmp_path) == ['iter_1.pth']


def test_a_loss_scale_has_its_say(tmp_path):
    """Of gradients that overflow, which the scale skips; not of the loss."""
    hook, run = StopAtInvalidLossHook(), runner(tmp_path)
    hook.before_train(run)
    hook.after_train_iter(run, 0, {})
    run.optim_wrapper.loss_scaler = torch.amp.GradScaler('cpu')
    hook._check(dict(grad_norm=float('inf'), loss=1.0))
    with pytest.raises(TrainingStoppedError, match='the loss is inf'):
        hook._check(dict(grad_norm=1.0, loss=float('inf')))
    run.optim_wrapper.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
    with pytest.raises(TrainingStoppedError, match='norm of the gradients is inf'):
        hook._check(dict(grad_norm=float('inf'), loss=1.0))


@pytest.mark.parametrize('late', [True, False])
def test_switched_off(tmp_path, late):
    settings = {'default_hooks.invalid_loss.enable': False}
    runner(tmp_path, late=late, bad_image=True, **settings).train()
    assert files(tmp_path) == ['iter_4.pth']


def test_our_configs_have_it():
    configs = Path(__file__).resolve().parents[2] / 'configs'
    for name in (
        'v2m-mini_digits.py',
        'mask-rcnn_v2m-s_1x_coco.py',
        'mask-rcnn_v2m-s_3x_coco.py',
        'upernet_v2m-t_8xb2-160k_ade20k-512x512.py',
    ):
        hook = Config.fromfile(configs / name).default_hooks.invalid_loss
        assert hook.type.removeprefix('mmv2m.') == 'StopAtInvalidLossHook' and 'enable' not in hook
