"""features_only=True: for timm's users, mmpretrain's and mmseg's TIMMBackbone, and smp's tu-."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

timm = pytest.importorskip('timm')

from timm_families import FAMILIES  # noqa: E402

import mmv2m.timm  # noqa: E402

PYRAMIDS = ('v2m_pyramid_small', 'v2m_pyramid_base', 'vmamba', 'efficient_vmamba')


def strides_of(name):
    return [4, 8, 16, 32] if name.startswith(PYRAMIDS) else [16] * 4


@pytest.mark.parametrize('name', mmv2m.timm.BACKBONES)
def test_every_name(name):
    """The first stage of each model in its own size."""
    model = timm.create_model(name, features_only=True, out_indices=(0,))
    cls, arch = mmv2m.timm.BACKBONES[name]
    sizes = cls.ARCH_ZOO[arch]
    assert type(model.backbone) is cls and model.feature_info.channels() == [sizes.embed_dims]
    assert len(model.backbone.stages) == 1
    info = model.feature_info.info
    assert [stage['reduction'] for stage in info] == strides_of(name)
    doubles = 2 if name.startswith(PYRAMIDS) else 1
    assert [stage['num_chs'] for stage in info] == [sizes.embed_dims * doubles**i for i in range(4)]


@pytest.mark.parametrize('name', FAMILIES)
def test_maps_have_the_strides_that_feature_info_says(name):
    settings = dict(arch=FAMILIES[name], features_only=True, in_chans=1)
    model = timm.create_model(name, img_size=32, **settings).eval()
    maps = model(torch.rand(1, 1, 32, 64))
    assert [y.shape for y in maps] == [
        (1, width, 32 // stride, 64 // stride)
        for width, stride in zip(
            model.feature_info.channels(), model.feature_info.reduction(), strict=True
        )
    ]


ARCH = dict(embed_dims=8, depths=(1, 1, 1, 1), state_dims=1)


@pytest.mark.parametrize(
    ('wanted', 'stages'), [(None, [0, 1, 2, 3]), (2, [2, 3]), ((1, -1), [1, 3]), ([2], [2])]
)
def test_out_indices(wanted, stages):
    settings = {} if wanted is None else dict(out_indices=wanted)
    model = timm.create_model('vmamba_tiny', features_only=True, arch=ARCH, **settings)
    assert model.feature_info.channels() == [8 << i for i in stages]
    assert model.feature_info.reduction() == [4 << i for i in stages]
    assert model.feature_info.module_name() == [f'backbone.stages.{i}' for i in stages]
    maps = model(torch.rand(1, 3, 64, 64))
    assert [y.shape[1:] for y in maps] == [(8 << i, 16 >> i, 16 >> i) for i in stages]


def test_maps_are_the_dense_backbones():
    model = timm.create_model('v2m_tiny', features_only=True, arch=ARCH, img_size=32).eval()
    settings = dict(class_token='mean', out_indices=(0, 1, 2, 3), out_type='featmap')
    dense = mmv2m.models.V2M(ARCH, img_size=32, **settings).eval()
    dense.load_state_dict(model.backbone.state_dict())
    x = torch.rand(1, 3, 32, 48)
    assert all(torch.equal(a, b) for a, b in zip(model(x), dense(x), strict=True))


@pytest.mark.parametrize('features_only', [True, False])
def test_mmpretrains_wrapper(features_only):
    backbone = dict(
        type='TIMMBackbone', model_name='vmamba_tiny', arch=ARCH, features_only=features_only
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(backbone)
    maps = model(torch.rand(1, 3, 64, 64))
    assert maps[-1].shape == (1, 64, 2, 2) and len(maps) == (4 if features_only else 1)


def test_mmsegs_wrapper():
    pytest.importorskip('mmseg')
    settings = dict(model_name='vmamba_tiny', arch=ARCH, features_only=True, pretrained=False)
    backbone = dict(type='TIMMBackbone', **settings)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(backbone)
    assert [y.shape[1] for y in model(torch.rand(1, 3, 64, 64))] == [8, 16, 32, 64]


def test_segmentation_models_pytorch():
    smp = pytest.importorskip('segmentation_models_pytorch')
    model = smp.Unet(
        'tu-vmamba_tiny', encoder_weights=None, encoder_depth=5, in_channels=4, classes=2, arch=ARCH
    )
    assert model.encoder.out_channels == [4, 0, 8, 16, 32, 64]
    assert model.eval()(torch.rand(1, 4, 64, 64)).shape == (1, 2, 64, 64)
