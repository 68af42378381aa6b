"""Two processes train as one does that gets their batches together.

Of the same shuffled images rank r of n gets every n-th, beginning with the r-th, so that the ranks'
batches together are the one process's batch. Without random augmentation, mixup and drop path, the
mean of the ranks' losses is its loss and DDP's mean of their gradients is its gradient, up to
rounding in fp32.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from small_models import ARCHS, WIDTHS
from torch.nn.utils import parameters_to_vector

ROOT = Path(__file__).resolve().parents[2]
BATCH, IMAGES, EPOCHS = 8, 24, 2
LOSS_TOLERANCE = 1e-4
"""Relative, in every iteration."""
WEIGHT_TOLERANCE = 0.02
"""Distance between the two runs' weights as a part of the way that training took them. (Adam steps
by the sign of a gradient where it is as small as its rounding error. Ranks that leave each other's
gradients alone are 0.4 apart, and their losses 5e-4 from the second iteration on.)"""


def _make_imagenet():
    """Images of noise around a colour in data/train/<class>/, and their list, as ImageNet's."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(IMAGES):
        name = f'class{i % 4}/{i}.JPEG'
        file = Path('data/train', name)
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 100, 3) + rng.integers(0, 150, (40 + i, 64, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(file)
        lines.append(f'{name} {i % 4 * 250}\n')
    Path('data/meta').mkdir()
    Path('data/meta/train.txt').write_text(''.join(lines))


def _write_config(small, graphs=False):
    """Path of V2M-T of Table 1 on these images, nothing random; or of a small model like it."""
    cfg = Config.fromfile(ROOT / 'configs' / 'v2m-t_8xb64_in1k.py')
    assert not cfg.get('find_unused_parameters')
    cfg.model.train_cfg = None
    cfg.model.backbone.drop_path_rate = 0.0
    pipeline = cfg.test_dataloader.dataset.pipeline
    if small:
        cfg.model.backbone.update(arch=ARCHS['plain'], img_size=32, patch_size=8)
        cfg.model.head.in_channels = WIDTHS['plain'][-1]
        pipeline[1].scale = pipeline[2].crop_size = 32
        cfg.env_cfg.dist_cfg.backend = 'gloo'
    cfg.train_dataloader.num_workers = 0
    cfg.train_dataloader.dataset.update(data_root='data', pipeline=pipeline)
    cfg.param_scheduler = []
    cfg.train_cfg.max_epochs = EPOCHS
    cfg.randomness = dict(seed=0)
    cfg.custom_imports.imports.append('rank_losses')
    cfg.custom_hooks = [dict(type='RankLosses'), *([dict(type='CUDAGraphHook')] if graphs else [])]
    cfg.dump('config.py')
    return 'config.py'


def _run(command, work_dir, batch, **environment):
    """Losses of each rank and iteration, initial and final weights."""
    path = f'{ROOT / "tests"}:{os.environ.get("PYTHONPATH", "")}'
    # cuDNN's convolutions are TF32 by default.
    environment = dict(os.environ, PYTHONPATH=path, NVIDIA_TF32_OVERRIDE='0', **environment)
    options = ['--work-dir', work_dir, '--no-validate']
    options += ['--cfg-options', f'train_dataloader.batch_size={batch}']
    subprocess.run([*command, *options], check=True, env=environment)
    assert Path(work_dir, f'epoch_{EPOCHS}.pth').exists()
    assert len(list(Path(work_dir).glob('*/*.log'))) == 1
    losses = np.stack([np.loadtxt(file) for file in sorted(Path(work_dir).glob('rank*.txt'))])
    weights = (
        torch.load(f'{work_dir}/{name}.pth', map_location='cpu') for name in ('initial', 'final')
    )
    return losses, *(parameters_to_vector(state.values()).double() for state in weights)


def _compare(config, **environment):
    train = ROOT / 'tools' / 'train.py'
    alone, start, end = _run([sys.executable, train, config], 'one', BATCH, **environment)
    # Its directory comes first: the launcher takes the python, or the python3, that PATH has.
    environment |= dict(PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}', PORT='29519')
    script = ['bash', ROOT / 'tools' / 'dist_train.sh', config, '2']
    ranks, other_start, other_end = _run(script, 'two', BATCH // 2, **environment)

    assert alone.shape == (1, EPOCHS * IMAGES // BATCH) and ranks.shape == (2, *alone.shape[1:])
    assert torch.equal(start, other_start)
    np.testing.assert_allclose(ranks.mean(0), alone[0], rtol=LOSS_TOLERANCE)
    # The ranks had images of their own, and training changed something.
    assert np.abs(ranks[0] / ranks[1] - 1).max() > 10 * LOSS_TOLERANCE
    assert alone[0, -3:].mean() < alone[0, :3].mean()
    assert (other_end - end).norm() < WEIGHT_TOLERANCE * (end - start).norm()


pytestmark = pytest.mark.skipif(os.name == 'nt', reason='shell scripts')


def test_two_processes_on_a_cpu():
    _make_imagenet()
    _compare(_write_config(small=True), CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1')


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
@pytest.mark.parametrize('graphs', [False, True])
def test_two_gpus(graphs):
    """Graphs are captured in the second epoch."""
    _make_imagenet()
    _compare(_write_config(small=False, graphs=graphs))
