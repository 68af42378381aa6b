"""Trainings that cannot go on, or must not begin: what they say, and what they leave."""

import builtins
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_digits import TINY_DIGITS

from mmv2m.engine.work_dir import only_training_in

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import os, sys, time
sys.path.insert(0, {root!r})
from mmv2m.engine.work_dir import only_training_in
with only_training_in('run'):
    if not os.fork():
        time.sleep(60)
    print('locked', flush=True)
    time.sleep(60)
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / 'tiny.py'
    file.write_text(TINY_DIGITS)
    return str(file)


def stopped(train, capsys, *argv):
    """The error line of a training that ends after it has begun."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        train(list(argv))
    assert stop.value.code == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith('error: ')]
    return line


def test_two_trainings_in_one_folder(train, capsys, config):
    code = HOLDER.format(root=str(ROOT))
    with subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as first:
        try:
            assert first.stdout.readline() == 'locked\n'
            line = stopped(train, capsys, config, '--work-dir', 'run')
            assert f'another training is running in run (process {first.pid} on ' in line
            assert 'choose another folder with --work-dir' in line
            assert os.listdir('run') == ['.training.lock']
            # A killed training holds it no longer, though a process that it started lives on.
            first.send_signal(signal.SIGKILL)
            first.wait()
            with only_training_in('run'):
                pass
            train([config, '--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1'])
        finally:
            os.killpg(first.pid, signal.SIGKILL)
    assert Path('run/epoch_1.pth').exists()


def test_a_folder_that_cannot_be_made(train, capsys, config):
    Path('file').touch()
    line = stopped(train, capsys, config, '--work-dir', 'file/run')
    assert 'file/run cannot be used as the folder of the training' in line
    assert 'choose another one with --work-dir' in line


def test_the_lock_of_a_training(train, capsys, config, monkeypatch):
    """It is there while the training runs, in the training's own process."""
    from mmengine.runner import Runner

    seen = []

    def run(self):
        seen.append(stopped(train, capsys, config, '--work-dir', 'run'))

    monkeypatch.setattr(Runner, 'train', run)
    train([config, '--work-dir', 'run'])
    assert f'is running in run (process {os.getpid()} on ' in seen[0]


class FullDisk:
    """A file whose second half does not fit any more."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk(train, capsys, config, monkeypatch):
    train([config, '--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1'])
    before = torch.load('run/epoch_1.pth', weights_only=False)['state_dict']
    real = builtins.open

    def open_(file, mode='r', *args, **kwargs):
        opened = real(file, mode, *args, **kwargs)
        return FullDisk(opened) if str(file).endswith('.pth.part') else opened

    keep = ['--cfg-options', 'default_hooks.checkpoint.max_keep_ckpts=1']
    with monkeypatch.context() as full:
        full.setattr(builtins, 'open', open_)
        line = stopped(train, capsys, config, '--work-dir', 'run', '--resume', *keep)
    assert 'No space left on device (' in line and 'run/epoch_2.pth)' in line
    assert 'earlier files are complete' in line
    assert sorted(p.name for p in Path('run').glob('*.pth*')) == ['epoch_1.pth']
    after = torch.load('run/epoch_1.pth', weights_only=False)['state_dict']
    assert all(torch.equal(after[name], value) for name, value in before.items())
    train([config, '--work-dir', 'run', '--resume'])
    assert Path('run/epoch_2.pth').exists()


def test_a_loss_that_is_nan(train, capsys, config):
    hook = 'default_hooks.invalid_loss.type=StopAtInvalidLossHook'
    line = stopped(
        train, capsys, config, '--work-dir', 'run', '--cfg-options', hook,
        'model.data_preprocessor.std=[0.0,1.0,1.0]', 'model.data_preprocessor.mean=[0.0,0.0,0.0]',
    )  # fmt: skip
    assert line.startswith('error: the training has stopped: the loss is nan in iteration 1, epoch')
    assert line.endswith('no checkpoint was saved before')
    assert not list(Path('run').glob('*.pth'))
