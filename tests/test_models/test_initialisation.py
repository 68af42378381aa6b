import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope

import mmv2m.models  # noqa: F401
from mmv2m.models.layers import DirectionalSSM

ARCH = dict(embed_dims=32, depths=(1, 1, 1, 1))


def check_time_steps(model):
    halves = [m for m in model.modules() if isinstance(m, DirectionalSSM)]
    assert halves
    for half in halves:
        steps = F.softplus(half.dt_proj.bias)
        assert 1e-3 * 0.99 <= steps.min() < steps.max() <= 1e-1 * 1.01
        bound = half.dt_proj.in_features**-0.5
        assert 0.9 * bound < half.dt_proj.weight.abs().max() <= bound


def build(**settings):
    init_default_scope('mmpretrain')
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='V2M', arch=ARCH, img_size=32, patch_size=8),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
            **settings,
        )
    )


def test_both_scans_start_with_special_time_steps():
    check_time_steps(build())


def test_configured_initialisation_leaves_time_steps_and_output_scale_alone():
    torch.manual_seed(0)
    model = build(init_cfg=[dict(type='TruncNormal', layer='Linear', std=0.5, bias=0.0)])
    model.init_weights()
    check_time_steps(model)
    mixer = model.backbone.stages[0][0].mixer
    assert 0.4 < mixer.in_proj.weight.std() < 0.6
    bound = 64**-0.5 * 4**-0.5
    assert 0.9 * bound < mixer.out_proj.weight.abs().max() <= bound


def test_a_second_init_weights_changes_nothing():
    model = build()
    model.init_weights()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_evolution_parameter_and_skip():
    half = DirectionalSSM(4, states=5, dt_rank=1)
    assert torch.allclose(half.A_log.exp(), torch.arange(1.0, 6).expand(4, 5))
    assert torch.equal(half.D, torch.ones(4))
