"""200 steps with CUDA graphs have the losses of 200 steps without; needs an NVIDIA GPU.

A graph launches the kernels that the eager pass launches, in the same order and with the same
random numbers, so that losses and weights are the same to the bit, where two eager trainings are.
Where two eager trainings differ already, because a kernel adds up in no fixed order, the losses
with graphs may differ from theirs by three times as much.
"""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS
from runners import forget_runners
from small_models import ARCHS, WIDTHS

import mmv2m.engine  # noqa: F401  (registers the hook, if it is there)
from mmv2m.reproduce.made_batch import make_batch
from mmv2m.reproduce.runner_steps import made_loader, run_steps

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
STEPS = 200
SIZES = (16, 16, 16, 16, 5)
"""Images in the batches, in turn: the last one of an epoch is incomplete."""
SMALL = {
    'plain': dict(type='V2M', arch=ARCHS['plain'], img_size=32, patch_size=4),
    'pyramid': dict(type='V2M', arch=ARCHS['pyramid'], img_size=32),
    'batch norm': dict(type='ResNet_CIFAR', depth=18, base_channels=16, stem_channels=16),
}
CHANNELS = {'plain': WIDTHS['plain'][-1], 'pyramid': WIDTHS['pyramid'][-1], 'batch norm': 128}
AMP = dict(type='AmpOptimWrapper', loss_scale='dynamic')
CHANGES = {
    'float32': {},
    'bfloat16': {'optim_wrapper': dict(AMP, dtype='bfloat16')},
    # So large a scale overflows at first: steps are left out, and the scale is halved.
    'float16': {'optim_wrapper': dict(AMP, loss_scale=dict(init_scale=2.0**30))},
    'accumulation': {'optim_wrapper': dict(accumulative_counts=3)},
    'average of weights': {'custom_hooks': [dict(type='EMAHook', momentum=0.01)]},
    'mixup': {'model.train_cfg': dict(augments=dict(type='Mixup', alpha=0.8))},
}
CASES = [(kind, 'float32') for kind in SMALL] + [
    *(('plain', change) for change in CHANGES if change != 'float32'),
    *(('batch norm', change) for change in ('float16', 'accumulation')),
]
DROP_PATH = 0.2


def make_config(backbone, channels, change):
    """CIFAR-10's config with this backbone."""
    cfg = Config.fromfile(CONFIGS / 'v2m-t_1xb128_cifar10.py')
    cfg.model.backbone = backbone
    cfg.model.head.in_channels = channels
    if backbone['type'] == 'ResNet_CIFAR':
        cfg.model.neck = dict(type='GlobalAveragePooling')
    else:
        cfg.model.backbone.setdefault('drop_path_rate', DROP_PATH)
    cfg.param_scheduler = []
    cfg.custom_hooks = []
    cfg.randomness = dict(seed=0)
    cfg.model.pop('train_cfg')
    cfg.merge_from_dict(CHANGES[change])
    return cfg


def make_batches(cfg):
    batches = [make_batch(cfg, (32, 32), count, 'cuda') for count in SIZES]
    for shift, batch in enumerate(batches):
        batch['inputs'] = batch['inputs'].bitwise_xor(37 * shift)  # other images
    return batches


def train(cfg, graphs):
    """Losses of all steps, the weights (averaged ones too) and how often a graph ran."""
    cfg = cfg.copy()
    if graphs:
        cfg.custom_hooks = [*cfg.custom_hooks, dict(type='CUDAGraphHook')]

    def script(runner):
        losses = []
        for _ in range(STEPS):
            yield
            losses.append(float(runner.message_hub.get_scalar('train/loss').current()))
        models = [runner.model]
        models += [hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model')]
        weights = [
            value.detach().clone()
            for model in models
            for value in model.state_dict().values()
            if value.is_floating_point()
        ]
        return torch.tensor(losses), weights, getattr(runner.model.backbone.forward, 'replays', 0)

    try:
        return run_steps(cfg, script, made_loader(make_batches(cfg)))
    finally:
        forget_runners()


def assert_same(cfg):
    losses, weights, none = train(cfg, graphs=False)
    again, weights_again, _ = train(cfg, graphs=False)
    graphed, graphed_weights, replays = train(cfg, graphs=True)
    assert none == 0 and replays > 0.7 * STEPS
    assert losses.isfinite().all() and losses[-25:].mean() < losses[:25].mean()
    if torch.equal(losses, again) and all(map(torch.equal, weights, weights_again)):
        assert torch.equal(graphed, losses)
        assert all(map(torch.equal, graphed_weights, weights))
    else:
        apart = (again - losses).abs().mean()
        assert (graphed - losses).abs().mean() <= 3 * apart


pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason='needs an NVIDIA GPU'),
    pytest.mark.skipif(HOOKS.get('CUDAGraphHook') is None, reason='there is no CUDAGraphHook'),
]


@pytest.mark.parametrize(('kind', 'change'), CASES)
def test_small_models(kind, change):
    assert_same(make_config(dict(SMALL[kind]), CHANNELS[kind], change))


@pytest.mark.parametrize(
    ('config', 'change'),
    [('v2m-star', 'bfloat16'), ('v2m-t', 'float16'), ('vmamba', 'average of weights')],
)
def test_the_studys_models(config, change):
    cfg = Config.fromfile(CONFIGS / 'studies' / f'{config}_cifar10.py')
    assert_same(make_config(cfg.model.backbone, cfg.model.head.in_channels, change))
