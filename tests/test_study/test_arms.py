"""Every arm of the study trains: one step of each, at its full size, on two images."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from mmv2m.engine.config import load_config
from mmv2m.study.plan import load_study

ROOT = Path(__file__).resolve().parents[2]
CIFAR = load_study(ROOT / 'configs/studies/cifar10.yml')
ARMS = sorted({arm.config for c in CIFAR.comparisons for arm in c.arms})


@pytest.mark.parametrize('config', ARMS, ids=lambda path: path.stem)
def test_one_step_of_an_arm(config):
    cfg = load_config(str(config))
    cfg.model.data_preprocessor = None
    wrapper = cfg.optim_wrapper
    wrapper.type = 'OptimWrapper'  # mixed precision needs a GPU
    for setting in ('dtype', 'loss_scale'):
        wrapper.pop(setting)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        model.init_weights()
        optimizer = build_optim_wrapper(model, wrapper)
    images = torch.randn(2, 3, 32, 32)
    samples = [DataSample().set_gt_label(label) for label in (3, 7)]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = []
    for _ in range(2):
        loss = model(images, samples, mode='loss')['loss']
        losses.append(loss.item())
        optimizer.update_params(loss)
    assert losses[1] < losses[0]
    unchanged = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    # The last stage of a pyramid has one token, from which no state is handed on.
    handed_on = ('A_log', 'mix') if 'star' in config.stem or 'vmamba' in config.stem else ()
    assert not [n for n in unchanged if not ('stages.3' in n and n.endswith(handed_on))]
