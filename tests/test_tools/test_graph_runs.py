"""tools/train.py through CUDA graphs: the same losses as without, also behind an interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='CUDA graphs need a GPU')
EPOCHS = 4


def write_config(name, graphs):
    """The demo's model on digits in their order: nothing is random, every step is logged."""
    cfg = Config.fromfile(ROOT / 'configs' / 'v2m-mini_digits.py')
    cfg.train_dataloader.update(batch_size=64, num_workers=1, persistent_workers=True)
    cfg.train_dataloader.sampler.shuffle = False
    cfg.train_dataloader.dataset.pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.save_best = None
    cfg.default_hooks.runtime_info = dict(type='DeferredRuntimeInfoHook')
    cfg.custom_hooks = [dict(type='CUDAGraphHook')] if graphs else []
    cfg.train_cfg.max_epochs = EPOCHS
    cfg.log_level = 'INFO'
    cfg.dump(name)
    return name


def command(config, work_dir, *options):
    train = str(ROOT / 'tools' / 'train.py')
    options = ['--no-validate', '--amp', '--cfg-options', 'optim_wrapper.dtype=bfloat16', *options]
    return [sys.executable, train, config, '--work-dir', work_dir, *options]


def losses(work_dir):
    """By step; of a step that ran twice, the later one."""
    found = {}
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for entry in map(json.loads, file.read_text().splitlines()):
            if 'loss' in entry:
                found[entry['step']] = entry['loss'], entry['grad_norm']
    return found


def test_losses_are_equal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, graphs in (('eager', False), ('graphs', True)):
        subprocess.run(command(write_config(f'{name}.py', graphs), name), check=True)
    eager = losses('eager')
    assert len(eager) > 60 and losses('graphs') == eager


def test_killed_run_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config('config.py', True)
    subprocess.run(command(config, 'whole'), check=True)
    run = subprocess.Popen(command(config, 'killed'))
    deadline = time.monotonic() + 300
    while not Path('killed/epoch_2.pth').exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not Path(f'killed/epoch_{EPOCHS}.pth').exists(), 'the run ended before it was killed'
    subprocess.run([*command(config, 'killed'), '--resume'], check=True)
    assert losses('killed') == losses('whole')
    whole, resumed = (
        torch.load(f'{name}/epoch_{EPOCHS}.pth', map_location='cpu', weights_only=False)
        for name in ('whole', 'killed')
    )
    for name, weights in whole['state_dict'].items():
        assert torch.equal(weights, resumed['state_dict'][name]), name
