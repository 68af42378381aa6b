import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmv2m.models  # noqa: F401
from mmv2m.models.layers import SequenceSSM
from mmv2m.models.layers.snake_scan import SnakeSSM

SCHEDULES = Path(__file__).resolve().parents[2] / 'configs/_base_/schedules'
ARCH = dict(embed_dims=16, depths=(1, 1, 1, 1))
BACKBONES = [
    dict(type='VMamba', arch=ARCH),
    dict(type='PlainMamba', arch=dict(ARCH, conv_behind_first=True), img_size=32),
    dict(type='EfficientVMamba', arch=ARCH),
]
WIDTHS = dict(VMamba=128, PlainMamba=16, EfficientVMamba=128)
each_backbone = pytest.mark.parametrize('backbone', BACKBONES, ids=lambda b: b['type'])


def build(backbone, **settings):
    init_default_scope('mmpretrain')
    head = dict(type='LinearClsHead', num_classes=3, in_channels=WIDTHS[backbone['type']])
    return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head, **settings))


@pytest.mark.parametrize('directions', [('right',), ('left', 'right'), ('left', 'left', 'right')])
def test_scans_have_parameters_of_their_own_and_are_summed(directions):
    torch.manual_seed(0)
    together = SequenceSSM(4, 3, 2, directions).double()
    for parameter in together.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(2, 1, 7, 4, dtype=torch.float64)
    total = torch.zeros_like(x)
    scans = []
    for k, direction in enumerate(directions):
        alone = SequenceSSM(4, 3, 2).double()
        alone.load_state_dict(
            {name: value.chunk(len(directions))[k] for name, value in together.state_dict().items()}
        )
        forwards = x if direction == 'right' else x.flip(2)
        y = alone(forwards)
        total = total + (y if direction == 'right' else y.flip(2))
        scans.append(alone)
    result = together(x)
    assert torch.allclose(result, total)
    result.sin().sum().backward()
    total.sin().sum().backward()
    for name, parameter in together.named_parameters():
        each = torch.cat([alone.get_parameter(name).grad for alone in scans])
        assert torch.allclose(parameter.grad, each), name


@each_backbone
def test_configured_initialisation_leaves_the_scans_alone(backbone):
    torch.manual_seed(0)
    model = build(backbone, init_cfg=[dict(type='TruncNormal', layer='Linear', std=0.5, bias=0.0)])
    model.init_weights()
    scans = [m for m in model.modules() if isinstance(m, SequenceSSM)]
    assert scans
    for scan in scans:
        if isinstance(scan, SnakeSSM):
            assert not scan.dt_bias.any()
            assert 0.01 < scan.dt_proj.std() < 0.03
        else:
            steps = F.softplus(scan.dt_bias)
            assert 1e-3 * 0.99 <= steps.min() < steps.max() <= 1e-1 * 1.01
            bound = 1 / math.sqrt(scan.dt_proj.shape[1])
            assert 0.9 * bound < scan.dt_proj.abs().max() <= bound
        assert torch.equal(scan.D, torch.ones_like(scan.D))
        states = torch.arange(1.0, scan.A_log.shape[1] + 1)
        assert torch.allclose(scan.A_log.exp(), states.expand_as(scan.A_log))


@each_backbone
def test_linear_layers_start_small(backbone):
    torch.manual_seed(0)
    model = build(backbone)
    model.backbone.init_weights()
    layers = [m for m in model.backbone.modules() if isinstance(m, nn.Linear)]
    assert layers
    for layer in layers:
        assert 0.015 < layer.weight.std() < 0.025
        assert layer.bias is None or not layer.bias.any()


@each_backbone
def test_only_weights_of_layers_decay(backbone):
    model = build(backbone)
    schedule = Config.fromfile(SCHEDULES / 'imagenet_bs1024_adamw_300e.py')
    groups = build_optim_wrapper(model, schedule.optim_wrapper).param_groups
    rates = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    for name, parameter in model.named_parameters():
        own = name.rpartition('.')[2]
        embedding = 'pos_embed' in name or own == 'direction_embed'
        layer = own in ('weight', 'x_proj', 'dt_proj') and parameter.dim() > 1 and not embedding
        assert rates[id(parameter)] == (0.05 if layer else 0), name
