import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

import mmv2m.engine  # noqa: F401
from mmv2m.models import V2M

RATE = 0.5
BACKBONE = dict(
    type='mmv2m.V2M',
    arch=dict(embed_dims=8, depths=(1, 2, 1, 1), state_dims=1, layout='pyramid', ffn_ratio=1),
    out_indices=(0, 1, 2, 3),
    out_type='featmap',
)
MODEL = dict(
    mmpretrain=dict(
        type='ImageClassifier',
        backbone=dict(BACKBONE, out_indices=(0, 3), out_type='avg_featmap'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
    ),
    mmdet=dict(
        type='FCOS',
        backbone=BACKBONE,
        neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5),
        bbox_head=dict(
            type='FCOSHead',
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            stacked_convs=1,
            norm_cfg=None,
        ),
    ),
    mmseg=dict(
        type='EncoderDecoder',
        backbone=BACKBONE,
        decode_head=dict(type='FCNHead', num_classes=3, in_channels=64, channels=8, num_convs=1),
    ),
)
# Stem, 1 block, change and 2 blocks, change and 1 block, change and 1 block, norms and heads.
LAYERS = {
    'backbone.patch_embed.first.conv.weight': 0,
    'backbone.stages.0.0.mixer.in_proj.weight': 1,
    'backbone.stages.1.0.conv.weight': 2,
    'backbone.stages.1.1.norm.weight': 3,
    'backbone.stages.1.2.ffn.layers.1.weight': 4,
    'backbone.stages.2.0.conv.weight': 5,
    'backbone.stages.3.0.norm.bias': 7,
    'backbone.stages.3.1.mixer.out_proj.weight': 8,
    'backbone.norm0.weight': 9,
}
DECAYS = dict(norm_decay_mult=0.0, custom_keys={'A_log': dict(decay_mult=0.0)})


def groups(scope, constructor, **paramwise_cfg):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(MODEL[scope])
        wrapper = build_optim_wrapper(
            model,
            dict(
                constructor=constructor,
                optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
                paramwise_cfg=dict(DECAYS, **paramwise_cfg),
            ),
        )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = wrapper.optimizer.param_groups
    found = {names[id(parameter)]: group for group in groups for parameter in group['params']}
    assert found.keys() == {name for name, _ in model.named_parameters()}
    return found


@pytest.mark.parametrize(
    ('scope', 'constructor'),
    [
        *((scope, 'LayerDecayOptimWrapperConstructor') for scope in MODEL),
        *((scope, 'mmv2m.LayerDecayOptimWrapperConstructor') for scope in MODEL),
        ('mmpretrain', 'LearningRateDecayOptimWrapperConstructor'),  # mmpretrain's own
    ],
)
def test_rates_fall_from_the_head_to_the_stem(scope, constructor):
    found = groups(scope, constructor, layer_decay_rate=RATE)
    for name, layer in LAYERS.items():
        assert found[name]['lr'] == RATE ** (9 - layer), name
    assert all(group['lr'] == 1 for name, group in found.items() if 'backbone' not in name)
    assert found['backbone.stages.0.0.mixer.ssm.all.rows.A_log']['weight_decay'] == 0
    assert found['backbone.stages.0.0.norm.weight']['weight_decay'] == 0
    assert found['backbone.stages.0.0.mixer.in_proj.weight']['weight_decay'] == 0.1


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_mmpretrains_constructor_serves_classifiers_only(scope):
    with pytest.raises(NotImplementedError, match='get_layer_depth'):
        groups(scope, 'mmpretrain.LearningRateDecayOptimWrapperConstructor', layer_decay_rate=RATE)


def test_rate_multipliers_come_on_top():
    keys = {'norm0': dict(lr_mult=3.0), 'patch_embed': dict(lr_mult=2.0)}
    found = groups(
        'mmseg', 'LayerDecayOptimWrapperConstructor', layer_decay_rate=RATE, custom_keys=keys
    )
    assert found['backbone.norm0.weight']['lr'] == 3
    assert found['backbone.patch_embed.first.conv.weight']['lr'] == 2 * RATE**9


@pytest.mark.parametrize('rate', [None, 0, 1.5, '0.5'])
def test_impossible_rates(rate):
    with pytest.raises(ValueError, match='layer_decay_rate, a number above 0 and up to 1'):
        groups('mmseg', 'LayerDecayOptimWrapperConstructor', layer_decay_rate=rate)


def test_a_backbone_without_layers():
    model = MODELS.build(dict(type='mmv2m.V2M', arch=BACKBONE['arch']))
    with pytest.raises(TypeError, match='backbone has get_layer_depth.* is a NoneType'):
        build_optim_wrapper(
            model,
            dict(
                constructor='LayerDecayOptimWrapperConstructor',
                optimizer=dict(type='SGD', lr=1.0),
                paramwise_cfg=dict(layer_decay_rate=RATE),
            ),
        )


def test_depths_of_a_shortened_backbone():
    model = V2M(dict(BACKBONE['arch']), out_indices=1)
    assert model.get_layer_depth('stages.1.2.mixer.in_proj.weight') == (4, 6)
    assert model.get_layer_depth('norm1.weight') == (5, 6)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (5, 6)
