"""Training steps on made-up data, on the CPU: each library's losses come out and move weights."""

from itertools import repeat
from pathlib import Path

import pytest
import torch
from dense_data import tiny_mask_rcnn, tiny_upernet
from mmengine.config import Config
from tiny_digits import TINY_DIGITS

from mmv2m.engine.config import load_config
from mmv2m.reproduce.made_batch import make_batch
from mmv2m.reproduce.runner_steps import made_loader, run_steps, without_weights
from mmv2m.reproduce.train_step import Throughput


def digits():
    Path('tiny.py').write_text(TINY_DIGITS)
    return 'tiny.py'


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ('make', 'size'),
    [
        (digits, (8, 8)),
        (lambda: tiny_upernet('upernet_v2m-s-star'), (64, 96)),
        (tiny_mask_rcnn, (64, 96)),
    ],
    ids=['mmpretrain', 'mmseg', 'mmdet'],
)
def test_throughput(make, size, monkeypatch):
    monkeypatch.setattr('mmv2m.reproduce.train_step.WARM_UP_STEPS', 1)
    monkeypatch.setattr('mmv2m.reproduce.train_step.LEAST_STEPS', 2)
    seen = []
    steps_per_second = Throughput._steps_per_second

    def watched(self, runner):
        seen.append((runner, [p.clone() for p in runner.model.parameters() if p.requires_grad]))
        return steps_per_second(self, runner)

    monkeypatch.setattr(Throughput, '_steps_per_second', watched)
    speed = Throughput(load_config(make()), size, 'cpu', seconds=0).measure(2)
    assert 0 < speed < float('inf')
    ((runner, before),) = seen
    assert runner.iter == 2  # the third step's hooks are where it ends
    after = [p for p in runner.model.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.isfinite(p).all() for p in after)


def test_steps_are_the_runners():
    cfg = load_config(digits())
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')  # the Runner hands it to the model
    cfg.model.train_cfg = dict(augments=dict(type='Mixup', alpha=0.8))
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='there/is/none.pth')
    cfg.custom_hooks = [dict(type='EMAHook')]
    batches = [make_batch(cfg, (8, 8), count, 'cpu') for count in (2, 3)]
    seen = []

    def script(runner):
        ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook')
        runner.model.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
        )
        for step in range(1, 4):
            assert ema.ema_model.steps == step - 1
            yield
        return 'done'

    assert run_steps(cfg, script, made_loader(batches)) == 'done'
    assert not list(Path().glob('**/*.pth'))
    samples = [kwargs['data_samples'] for _, kwargs in seen]
    assert [len(each) for each in samples] == [2, 3, 2]
    # Every step mixes the images' own labels, not what the step before has mixed.
    assert all('gt_score' not in sample for batch in batches for sample in batch['data_samples'])
    assert [int(sample.gt_label) for sample in samples[2]] == [0, 1]


def test_a_configs_own_loader():
    cfg = load_config(digits())

    def script(runner):
        yield from repeat(None, 3)
        return runner.epoch, runner.iter

    assert run_steps(cfg, script) == (1, 2)  # two batches an epoch; the third step is going on

    def endless(runner):
        while True:
            yield

    with pytest.raises(RuntimeError, match='ended before its script'):
        run_steps(cfg, endless)


def test_weights_are_not_loaded():
    init = dict(type='Pretrained', checkpoint='x')
    cfg = Config(dict(model=dict(a=dict(init_cfg=init), b=[dict(pretrained='y', c=1)])))
    changed = without_weights(cfg)
    assert changed.model == dict(a=dict(init_cfg=None), b=[dict(c=1)])
    assert cfg.model.a.init_cfg == init


def test_a_library_without_made_up_labels():
    with pytest.raises(KeyError):
        make_batch(Config(dict(default_scope='mmpose')), (8, 8), 1, 'cpu')
