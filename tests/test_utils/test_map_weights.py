"""Converters of VMamba, PlainMamba and EfficientVMamba; the models test what they make."""

import made_weights
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

import mmv2m.models  # noqa: F401
from mmv2m.utils import CONVERTERS, convert_official_checkpoint

ARCH = dict(embed_dims=8, depths=(1, 2, 1, 1), state_dims=1)
PLAIN_ARCH = dict(ARCH, depths=(2, 2, 2, 2), stem_convs=1, conv_behind_first=True)
FAMILIES = {
    'vmamba': (
        made_weights.vmamba_weights(8, ARCH['depths'], expand=1, states=1, ffn_ratio=4),
        dict(type='VMamba', arch=ARCH),
        'model',
    ),
    'plain-mamba': (
        made_weights.plain_mamba_weights(8, blocks=8, side=2, states=1),
        dict(type='PlainMamba', arch=PLAIN_ARCH, img_size=32),
        'state_dict',
    ),
    'efficient-vmamba': (
        made_weights.efficient_vmamba_weights(8, ARCH['depths'], states=1),
        dict(type='EfficientVMamba', arch=ARCH),
        'state_dict',
    ),
}
every_family = pytest.mark.parametrize('family', FAMILIES)


@every_family
def test_result_loads_into_a_classifier(tmp_path, family):
    weights, backbone, entry = FAMILIES[family]
    torch.save({entry: weights, 'epoch': 3}, tmp_path / 'official.pth')
    count = convert_official_checkpoint(family, tmp_path / 'official.pth', tmp_path / 'out.pth')
    converted = torch.load(tmp_path / 'out.pth')['state_dict']
    assert count == len(converted)
    assert sum(v.numel() for v in converted.values()) == sum(v.numel() for v in weights.values())
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=backbone,
                head=dict(
                    type='LinearClsHead',
                    num_classes=5,
                    in_channels=8 if family == 'plain-mamba' else 64,
                ),
            )
        )
    model.load_state_dict(converted, strict=True)


@every_family
def test_missing_and_unknown_keys(family):
    weights = FAMILIES[family][0]
    for key in list(weights)[::7]:
        some = {k: v for k, v in weights.items() if k != key}
        with pytest.raises(ValueError):
            CONVERTERS[family](some)
    with pytest.raises(ValueError, match="unknown keys .'extra'"):
        CONVERTERS[family](weights | dict(extra=torch.ones(1)))


@every_family
def test_wrappers_prefixes(family):
    weights = FAMILIES[family][0]
    wrapped = {f'module.module.{k}': v for k, v in weights.items()}
    plain, stripped = CONVERTERS[family](weights), CONVERTERS[family](wrapped)
    assert plain.keys() == stripped.keys()
    assert all(torch.equal(plain[k], stripped[k]) for k in plain)


def test_newest_names_of_vmamba():
    weights = dict(FAMILIES['vmamba'][0])
    expected = CONVERTERS['vmamba'](weights)
    for key in list(weights):
        if key.endswith(('x_proj_weight', 'dt_projs_weight')):
            weights[key.replace('_weight', '.weight')] = weights.pop(key).flatten(0, 1)
    converted = CONVERTERS['vmamba'](weights)
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[k], expected[k]) for k in expected)


@every_family
def test_a_backbone_without_its_head(family):
    weights = FAMILIES[family][0]
    expected = {k: v for k, v in CONVERTERS[family](weights).items() if 'head' not in k}
    bare = {k: v for k, v in weights.items() if 'head' not in k}
    spellings = [bare]
    if family == 'plain-mamba':
        spellings.append({k.removeprefix('backbone.'): v for k, v in bare.items()})
    for spelling in spellings:
        converted = CONVERTERS[family](spelling)
        assert converted.keys() == expected.keys()
        assert all(torch.equal(converted[k], expected[k]) for k in expected)


def test_linear_layers_that_were_convolutions():
    weights = dict(FAMILIES['vmamba'][0])
    expected = CONVERTERS['vmamba'](weights)
    for key in weights:
        if key.endswith(('fc1.weight', 'fc2.weight', 'in_proj.weight', 'out_proj.weight')):
            weights[key] = weights[key][:, :, None, None]
    converted = CONVERTERS['vmamba'](weights)
    assert all(torch.equal(converted[k], expected[k]) for k in expected)


def test_copies_of_a_moving_average_are_left_out():
    weights = FAMILIES['plain-mamba'][0]
    copies = {f'ema_{key.replace(".", "_")}': value + 1 for key, value in weights.items()}
    expected, converted = (CONVERTERS['plain-mamba'](w) for w in (weights, weights | copies))
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[k], expected[k]) for k in expected)


def test_plain_mamba_has_four_equal_stages_and_a_square_grid():
    with pytest.raises(ValueError, match='that 4 divides, but this checkpoint has 3'):
        CONVERTERS['plain-mamba'](made_weights.plain_mamba_weights(8, 3, 2, 1))
    weights = dict(FAMILIES['plain-mamba'][0])
    weights['backbone.pos_embed'] = torch.zeros(1, 6, 8)
    with pytest.raises(ValueError, match='6 positions, which is no square'):
        CONVERTERS['plain-mamba'](weights)
