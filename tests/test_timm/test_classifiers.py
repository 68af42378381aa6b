"""timm's users find the backbones under timm's names, with timm's methods."""

import subprocess
import sys

import pytest
import torch
from torch import nn

timm = pytest.importorskip('timm')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from timm.optim import create_optimizer_v2  # noqa: E402
from timm_families import FAMILIES  # noqa: E402

import mmv2m.timm  # noqa: E402

KINDS_OF_FEATURES = ('v2m_tiny', 'vim_tiny', 'vmamba_tiny')
"""Class tokens in a map, one in a sequence, and none."""


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


def create(name, **settings):
    torch.manual_seed(0)
    return timm.create_model(name, arch=FAMILIES[name], img_size=32, **settings).eval()


def test_names():
    names = set(timm.list_models())
    assert set(mmv2m.timm.BACKBONES) <= names
    assert {'v2m_tiny', 'v2m_local_small', 'v2m_pyramid_base', 'plain_mamba_l3'} < names
    model = timm.create_model('v2m_tiny')
    params = sum(p.numel() for p in model.parameters())
    assert round(params / 1e6, 2) == 6.86  # as docs/architectures.md has it
    assert model.pretrained_cfg['architecture'] == 'v2m_tiny'


def test_scores_are_the_backbones(name):
    model, x = create(name, num_classes=5), torch.rand(2, 3, 32, 48)
    y = model(x)
    assert y.shape == (2, 5)
    features = model.backbone(x)[0]
    assert torch.allclose(y, features @ model.head.fc.weight.T + model.head.fc.bias, atol=1e-5)
    assert torch.allclose(model.forward_head(model.forward_features(x), pre_logits=True), features)
    assert model.forward_features(x).shape[:2] == (2, model.num_features)


@pytest.mark.parametrize('name', KINDS_OF_FEATURES)
def test_another_classifier(name):
    model, x = create(name, num_classes=5, in_chans=4), torch.rand(1, 4, 32, 32)
    assert isinstance(model.get_classifier(), nn.Linear)
    model.reset_classifier(7)
    assert model.num_classes == 7 and model(x).shape == (1, 7)
    model.reset_classifier(0)
    assert model(x).shape == (1, model.num_features)
    model.reset_classifier(0, '')
    maps = model(x)
    assert maps.dim() == 4 and maps.shape[1] == model.num_features
    model.reset_classifier(3, 'avg')
    mean = maps.mean((2, 3))
    assert torch.allclose(model.forward_head(model.forward_features(x), True), mean, atol=1e-5)
    with pytest.raises(ValueError, match="global_pool='' needs num_classes=0"):
        model.reset_classifier(3, '')
    with pytest.raises(ValueError, match='num_classes must be 0 or more, but got -1'):
        model.reset_classifier(-1)
    with pytest.raises(ValueError, match='global_pool must be one of'):
        model.reset_classifier(3, 'max')


def test_settings(name):
    model = create(name, drop_path_rate=0.2, drop_rate=0.3, num_classes=2)
    rates = [m.drop_prob for m in model.backbone.modules() if hasattr(m, 'drop_prob')]
    assert max(rates) == pytest.approx(0.2) and model.head.drop.p == 0.3
    model.set_grad_checkpointing()
    assert model.backbone.with_cp
    with pytest.raises(TypeError, match="'qkv_bias'"):
        create(name, qkv_bias=True)
    with pytest.raises(TypeError, match='leave out_type out'):
        create(name, out_type='avg_featmap')
    with pytest.raises(ValueError, match=r'out_indices must name one, but got \(0, 3\)'):
        create(name, out_indices=(0, 3))
    with pytest.raises(RuntimeError, match='No pretrained weights exist'):
        create(name, pretrained=True)


def test_timms_optimizer(name):
    model = create(name, num_classes=2)
    optimizer = create_optimizer_v2(model, 'adamw', lr=1.0, weight_decay=0.1, layer_decay=0.5)
    names = {id(p): n for n, p in model.named_parameters()}
    scale = {}
    for group in optimizer.param_groups:
        for p in group['params']:
            scale[names[id(p)]] = group['lr_scale']
            flat = p.dim() <= 1 or any(
                part in names[id(p)] for part in ('A_log', 'pos_embed', 'class_token')
            )
            assert (group['weight_decay'] == 0) == flat, names[id(p)]
    assert len(scale) == len(names)
    stem, last = next(n for n in scale if 'embed' in n), 'head.fc.weight'
    blocks = [scale[n] for n in scale if '.stages.' in n and n.endswith('A_log')]
    assert scale[stem] < min(blocks) and max(blocks) < scale[last] == 1.0
    assert len(set(blocks)) == len({n.split('.mixer')[0] for n in scale if n.endswith('A_log')})


@pytest.mark.parametrize('name', KINDS_OF_FEATURES)
def test_mmpretrains_weights_load(name, tmp_path):
    model = create(name, num_classes=5)
    backbone = dict(type=type(model.backbone).__name__, arch=FAMILIES[name])
    if hasattr(model.backbone, 'pos_embed'):
        backbone['img_size'] = 32
    head = dict(type='LinearClsHead', num_classes=5, in_channels=model.num_features)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        other = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head)).eval()
    path = str(tmp_path / 'mmpretrain.pth')
    torch.save(dict(state_dict=other.state_dict()), path)
    loaded, x = create(name, num_classes=5, checkpoint_path=path), torch.rand(1, 3, 32, 32)
    assert torch.allclose(loaded(x), other(x, mode='tensor'), atol=1e-6)


def test_without_timm():
    code = 'import sys; sys.modules["timm"] = None; import mmv2m.timm'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == 'ImportError: mmv2m.timm needs timm: pip install timm'
