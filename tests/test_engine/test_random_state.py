"""A training that goes on from any of its checkpoints ends as it does in one go, to the bit."""

import io
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from runners import forget_runners
from tiny_digits import TINY_DIGITS

from mmv2m.engine.resuming import (
    generator_states,
    latest_checkpoint,
    restore_generators,
    resumable_loop,
)
from mmv2m.engine.runner import build_runner

KILLED = Path(__file__).resolve().parents[1] / 'killed_trainings.py'
BATCHES = 3
"""Of an epoch. The last one is smaller."""
EPOCHS = 3
LAST = BATCHES * EPOCHS
PARTS = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_state')


@pytest.fixture(autouse=True)
def no_runner_left_over():
    forget_runners()
    yield
    forget_runners()


@pytest.fixture
def cfg(tmp_path):
    return make_config(tmp_path)


def make_config(folder):
    """Everything random that a classifier's training has, and no seed of the config's own."""
    path = folder / 'tiny.py'
    path.write_text(TINY_DIGITS)
    cfg = Config.fromfile(path)
    cfg.update(launcher='none', randomness=dict(seed=None))
    cfg.model.backbone.arch.depths = (2, 0, 0, 0)
    cfg.model.backbone.drop_path_rate = 0.4
    cfg.model.train_cfg = dict(augments=dict(type='Mixup', alpha=0.8))
    cfg.model.head.loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    cfg.train_dataloader.sampler.shuffle = True
    cfg.train_dataloader.dataset.update(
        indices=BATCHES * 8 - 3,
        pipeline=[
            dict(type='RandomFlip', prob=0.5),
            dict(type='Rotate', angle=30.0, prob=0.7, random_negative_prob=0.5),
            dict(type='RandomErasing', erase_prob=0.5, mode='rand'),
            dict(type='PackInputs'),
        ],
    )
    cfg.optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.02))
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.1, end=4, by_epoch=False),
        dict(type='CosineAnnealingLR', T_max=EPOCHS),
    ]
    cfg.train_cfg = dict(by_epoch=True, max_epochs=EPOCHS, val_interval=1)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
    cfg.merge_from_dict({'val_dataloader.dataset.indices': 4, 'val_dataloader.batch_size': 4})
    return cfg


def train(cfg, name, resume=None):
    forget_runners()
    cfg = cfg.copy()
    cfg.work_dir = str(Path(cfg.filename).parent / name)
    if resume is not None:
        cfg.update(resume=True, load_from=str(resume))
    runner = build_runner(cfg)
    runner.train()
    # Workers end at once. Python's garbage collector would wait 5 s for each of them.
    runner.train_dataloader._iterator = None
    if hasattr(runner.train_loop, 'dataloader_iterator'):
        runner.train_loop.dataloader_iterator._iterator = None
    return runner


def result(runner, name):
    """What a training has learned, and where its generators are."""
    saved = torch.load(Path(runner.work_dir, name), weights_only=False)
    assert saved['meta']['iter'] == LAST
    return {part: saved[part] for part in PARTS}


def flat(tree, name=''):
    """The leaves of nested dicts, lists and tuples by their path."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {k: v for key, value in items for k, v in flat(value, f'{name}.{key}').items()}
    return {name: tree.tolist() if isinstance(tree, torch.Tensor) else tree}


def assert_same(found, right):
    found, right = flat(found), flat(right)
    assert found.keys() == right.keys()
    assert [name for name in right if found[name] != right[name]] == []


def assert_resumes(cfg, places):
    name = f'iter_{LAST}.pth'
    whole = train(cfg, 'whole')
    right, folder = result(whole, name), Path(whole.work_dir)
    for place in places:
        runner = train(cfg, f'from_{place}', folder / f'iter_{place}.pth')
        assert_same(result(runner, name), right)


WORKERS = {
    'none': {},
    'two': dict(num_workers=2, persistent_workers=False),
    'persistent': dict(num_workers=2, persistent_workers=True),
}


@pytest.mark.parametrize('workers', WORKERS)
def test_by_epoch_and_in_the_middle_of_one(workers, cfg):
    cfg.train_dataloader.update(WORKERS[workers])
    # The first one and the last one of an epoch, and between.
    assert_resumes(cfg, [BATCHES, BATCHES + 2])


def by_iteration(cfg, sampler):
    cfg.train_cfg = dict(by_epoch=False, max_iters=LAST, val_interval=2)
    cfg.train_dataloader.sampler = dict(type=sampler, shuffle=True)
    cfg.param_scheduler = cfg.param_scheduler[:1]
    return cfg


@pytest.mark.parametrize('workers', ['none', 'persistent'])
def test_by_iteration(workers, cfg):
    cfg.train_dataloader.update(WORKERS[workers])
    assert_resumes(by_iteration(cfg, 'InfiniteSampler'), [4, 7])


def test_by_iteration_with_a_sampler_that_ends(cfg, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda _: None)  # mmengine waits 2 s before each pass
    assert_resumes(by_iteration(cfg, 'DefaultSampler'), [2, BATCHES, 7])


def test_by_epoch_with_checkpoints_of_epochs(cfg):
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=1, save_best='accuracy/top1', rule='greater'
    )
    whole = train(cfg, 'whole')
    right = result(whole, f'epoch_{EPOCHS}.pth')
    runner = train(cfg, 'rest', Path(whole.work_dir, 'epoch_2.pth'))
    assert_same(result(runner, f'epoch_{EPOCHS}.pth'), right)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_on_a_gpu_with_a_loss_scale(cfg, monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    cfg.randomness = dict(seed=None, deterministic=True)
    cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')
    try:
        assert_resumes(cfg, [BATCHES, BATCHES + 2])
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


def log_of(runner):
    (log,) = Path(runner.work_dir).glob('*/*.log')
    return log.read_text()


def test_checkpoints_without_the_state_resume_as_before(cfg):
    whole = train(cfg, 'whole')
    right = result(whole, f'iter_{LAST}.pth')
    for name, change in (
        ('older', lambda saved: saved.pop('random_state')),
        ('other', lambda saved: saved['random_state']['ranks'].append({})),
    ):
        saved = torch.load(Path(whole.work_dir, 'iter_6.pth'), weights_only=False)
        saved['meta']['epoch'] = 2
        change(saved)
        file = Path(whole.work_dir, f'{name}.pth')
        torch.save(saved, file)
        runner = train(cfg, name, file)
        lines = [line for line in log_of(runner).splitlines() if 'Not restored' in line]
        assert len(lines) == 1
        assert ('without its random state', 'by 2 processes, not 1')[name == 'other'] in lines[0]
        # The images, their augmentation and the paths that were dropped were others.
        weights = result(runner, f'iter_{LAST}.pth')['state_dict']
        assert any(not torch.equal(weights[key], right['state_dict'][key]) for key in weights)


def test_another_length_of_an_epoch_is_said(cfg):
    whole = train(cfg, 'whole')
    cfg.train_dataloader.batch_size = 4
    runner = train(cfg, 'rest', Path(whole.work_dir, f'iter_{BATCHES + 1}.pth'))
    assert f'an epoch had {BATCHES} batches and has 6' in log_of(runner)


def test_a_finished_training_says_so(cfg):
    whole = train(cfg, 'whole')
    assert 'has finished' not in log_of(whole)
    # The last epoch's own steps come after its last iteration.
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    whole = train(cfg, 'epochs')
    runner = train(cfg, 'again', Path(whole.work_dir, f'epoch_{EPOCHS}.pth'))
    assert f'has finished: {EPOCHS} of {EPOCHS} epochs are done' in log_of(runner)


def test_states_are_plain_and_complete():
    """Also with the second of two normal numbers, which both libraries keep."""
    random.seed(3), np.random.seed(4), torch.manual_seed(5)
    random.gauss(0, 1), np.random.randn()
    file = io.BytesIO()
    torch.save(generator_states(), file)
    file.seek(0)

    def draw():
        pairs = (random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand())
        return (*pairs, torch.rand(()).item())

    drawn = draw()
    assert draw() != drawn
    restore_generators(torch.load(file, weights_only=True))
    assert draw() == drawn


def test_loops_of_others_stay_as_they_are():
    for train_cfg in (dict(by_epoch=False, max_iters=1), dict(type='Own', max_epochs=1), None):
        assert resumable_loop(train_cfg) is train_cfg


def test_moved_work_dirs_are_resumed(tmp_path):
    old, new = tmp_path / 'old', tmp_path / 'new'
    old.mkdir()
    assert latest_checkpoint(old) is None and latest_checkpoint(new) is None
    for name in ('epoch_1.pth', 'epoch_2.pth', 'iter_3.pth.part'):
        (old / name).touch()
    (old / 'last_checkpoint').write_text(str(old / 'epoch_1.pth'))
    assert latest_checkpoint(old) == str(old / 'epoch_1.pth')
    # A copy goes on with its own files.
    shutil.copytree(old, new)
    assert latest_checkpoint(new) == str(new / 'epoch_1.pth')
    # Checkpoints elsewhere are found by their path.
    (new / 'epoch_1.pth').unlink()
    assert latest_checkpoint(new) == str(old / 'epoch_1.pth')
    # A training was killed while it wrote the name.
    (new / 'last_checkpoint').write_text('')
    assert latest_checkpoint(new) == str(new / 'epoch_2.pth')


def test_a_copy_leaves_the_best_checkpoint_of_the_original_alone(cfg):
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', interval=1, save_best='accuracy/top1'
    )
    cfg.train_cfg.max_epochs = 1
    old = Path(train(cfg, 'old').work_dir)
    (best,) = old.glob('best_*')
    shutil.copytree(old, old.parent / 'new')
    saved = torch.load(old / 'epoch_1.pth', weights_only=False)
    saved['message_hub']['runtime_info']['best_score'] = -1.0
    torch.save(saved, old.parent / 'new' / 'epoch_1.pth')
    cfg.train_cfg.max_epochs = 2
    train(cfg, 'new', latest_checkpoint(old.parent / 'new'))
    assert best.exists()
    assert [file.name[-11:] for file in (old.parent / 'new').glob('best_*')] == ['epoch_2.pth']


def test_an_old_checkpoint_is_removed_when_the_new_one_is_whole(cfg, monkeypatch):
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
    folder = Path(cfg.filename).parent / 'run'

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # The process ends when the second checkpoint is written and not yet in its place.
        def end(part, target):
            shutil.move(part, target)
            patch.setattr('pathlib.Path.replace', fail)

        patch.setattr('pathlib.Path.replace', end)
        with pytest.raises(KeyboardInterrupt):
            train(cfg, 'run')
    assert sorted(file.name for file in folder.glob('*.pth*')) == [
        'epoch_1.pth',
        'epoch_2.pth.part',
    ]
    train(cfg, 'run', latest_checkpoint(folder))
    assert [file.name for file in folder.glob('epoch*')] == [f'epoch_{EPOCHS}.pth']


def test_own_hooks_that_save_are_left_alone(cfg):
    class Own(CheckpointHook):
        pass

    cfg.work_dir = str(Path(cfg.filename).parent / 'own')
    cfg.custom_hooks = [dict(type=Own)]
    kinds = [type(hook).__name__ for hook in build_runner(cfg).hooks]
    assert 'Own' in kinds and 'SafeCheckpointHook' in kinds and 'CheckpointHook' not in kinds


KILLED_RUNS = {'alone': (1, 8, 15), 'together': (2, 2, 6)}
"""Processes of a training, how often it is killed, and its epochs, which last that long."""


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    """Folders of killed trainings. One process forks all of them: importing takes longest."""
    folders, command = {}, [sys.executable, KILLED]
    for name, (processes, kills, epochs) in KILLED_RUNS.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        cfg = make_config(folder)
        cfg.randomness = dict(seed=0, diff_rank_seed=processes > 1)
        cfg.train_cfg.update(max_epochs=epochs, val_interval=5)
        best = dict(max_keep_ckpts=1, save_best='accuracy/top1', rule='greater')
        cfg.default_hooks.checkpoint.update(best)
        cfg.default_hooks.logger.interval = 100
        cfg.dump(folder / 'config.py')
        command += [folder / 'config.py', folder, processes, kills]
    environment = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    subprocess.run(list(map(str, command)), env=environment, check=True, timeout=300)
    return folders


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='the processes are forked')
@pytest.mark.parametrize('name', KILLED_RUNS)
def test_kills_at_random_moments(name, killed):
    """The work dir is moved after each kill. Ranks have random numbers of their own."""
    processes, _, epochs = KILLED_RUNS[name]
    results = []
    for run in ('whole', 'killed'):
        # A kill between the new file and the removal of the old one leaves both.
        files = (killed[name] / run).glob('iter_*.pth')
        file = max(files, key=lambda path: int(path.stem.split('_')[1]))
        saved = torch.load(file, weights_only=False)
        assert saved['meta']['iter'] == epochs * (BATCHES if processes == 1 else 2)
        assert len(saved['random_state']['ranks']) == processes
        results.append({part: saved[part] for part in PARTS})
    assert_same(*results)
    if processes > 1:
        states = [rank['generators']['torch'] for rank in results[0]['random_state']['ranks']]
        assert not torch.equal(*states)
