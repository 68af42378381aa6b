"""The log of a run whose numbers are read one step later is the log of mmengine's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from runners import forget_runners
from tiny_digits import TINY_DIGITS

from mmv2m.engine.hooks import DeferredRuntimeInfoHook
from mmv2m.engine.hooks.deferred_scalars import _Numbers


def run(folder, hook, by_epoch=True, interval=3, clip=True):
    """Losses in the message hub, losses in the log file, and those in the last checkpoint."""
    forget_runners()
    Path(folder).mkdir()
    cfg = Config.fromstring(TINY_DIGITS, '.py')
    cfg.work_dir = str(folder)
    cfg.randomness = dict(seed=0)
    cfg.train_dataloader.batch_size = 2
    cfg.default_hooks.logger.interval = interval
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=1 if by_epoch else 5, by_epoch=by_epoch
    )
    if hook:
        cfg.default_hooks.runtime_info = dict(type=hook)
    if clip:
        cfg.optim_wrapper.clip_grad = dict(max_norm=1.0)
    runner = Runner.from_cfg(cfg)
    runner.train()
    scalars = runner.message_hub.log_scalars
    names = ['train/loss', *(['train/grad_norm'] if clip else [])]
    history = {name: np.array(scalars[name].data[0]) for name in names}
    log = next(Path(folder).glob('*/vis_data/scalars.json')).read_text().splitlines()
    logged = [(e['step'], e['loss'], e.get('grad_norm')) for e in map(json.loads, log) if 'lr' in e]
    file = sorted(Path(folder).glob('*_*.pth'), key=lambda f: f.stat().st_mtime)[0]
    saved = torch.load(file, weights_only=False)['message_hub']['log_scalars']
    return history, logged, {name: np.array(saved[name].data[0]) for name in names}


@pytest.mark.parametrize(
    'by_epoch, interval, clip', [(True, 3, True), (False, 3, False), (False, 9, True)]
)
def test_logs_are_mmengines(tmp_path, by_epoch, interval, clip):
    stock = run(tmp_path / 'stock', None, by_epoch, interval, clip)
    ours = run(tmp_path / 'ours', 'DeferredRuntimeInfoHook', by_epoch, interval, clip)
    assert len(stock[0]['train/loss']) == 16
    for i in (0, 2):
        assert stock[i].keys() == ours[i].keys()
        for name in stock[i]:
            np.testing.assert_array_equal(stock[i][name], ours[i][name])
    assert stock[1] == ours[1]


class ReadsTimes(Hook):
    """Reads what is not a number of the GPU, after mmengine's own hooks."""

    priority = 'LOWEST'

    def __init__(self, deferred):
        self.deferred, self.read = deferred, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.message_hub.get_scalar('train/time')
        self.read.append(self.deferred._pending is not None)


def test_reading_the_time_of_a_step_does_not_wait_for_its_losses(tmp_path):
    forget_runners()
    cfg = Config.fromstring(TINY_DIGITS, '.py')
    cfg.work_dir = str(tmp_path)
    cfg.default_hooks.logger.interval = 100
    cfg.default_hooks.runtime_info = dict(type=DeferredRuntimeInfoHook)
    runner = Runner.from_cfg(cfg)
    deferred = next(h for h in runner.hooks if isinstance(h, DeferredRuntimeInfoHook))
    reader = ReadsTimes(deferred)
    runner.register_hook(reader)
    runner.train()
    # Every second step ends an epoch, whose log reads everything.
    assert reader.read == [True, False, True, False]
    assert len(runner.message_hub.get_scalar('train/loss').data[0]) == 4


class ReadsEveryStep(Hook):
    """As users' hooks do, by each of the hub's ways."""

    def __init__(self):
        self.read = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        hub = runner.message_hub
        ways = hub.get_scalar('train/loss'), hub.log_scalars['train/loss']
        ways = [*ways, hub.state_dict()['log_scalars']['train/loss']]
        assert {len(way.data[0]) for way in ways} == {runner.iter + 1}
        self.read.append((float(outputs['loss']), *(way.current() for way in ways)))


def test_readers_are_served_in_every_step(tmp_path):
    forget_runners()
    cfg = Config.fromstring(TINY_DIGITS, '.py')
    cfg.work_dir = str(tmp_path)
    cfg.optim_wrapper.clip_grad = dict(max_norm=1.0)
    cfg.default_hooks.runtime_info = dict(type=DeferredRuntimeInfoHook)
    runner = Runner.from_cfg(cfg)
    reader = ReadsEveryStep()
    runner.register_hook(reader)
    runner.train()
    assert len(reader.read) == 4 and all(len(set(values)) == 1 for values in reader.read)
    assert runner.optim_wrapper.clip_func is torch.nn.utils.clip_grad_norm_
    assert type(runner.message_hub) is MessageHub


@pytest.mark.skipif(not torch.cuda.is_available(), reason='numbers on a GPU')
def test_numbers_of_a_gpu():
    numbers = dict(a=torch.ones(1).cuda(), b=2.5, c=torch.tensor(3.25, requires_grad=True).cuda())
    assert _Numbers(numbers).read() == dict(a=1.0, b=2.5, c=3.25)
