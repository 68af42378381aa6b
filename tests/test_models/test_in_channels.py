"""Weights for three channels in backbones of other channels: inflated as timm does it."""

import copy

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from tiny_backbones import KINDS, make_image

FIRST = dict(
    plain='patch_embed.projection.weight',
    pyramid='patch_embed.first.conv.weight',
    vim='patch_embed.projection.weight',
    local_vim='patch_embed.projection.weight',
    vmamba='patch_embed.first.conv.weight',
    plain_mamba='stem_convs.0.conv.weight',
    efficient='patch_embed.projection.weight',
)


def build(kind, **settings):
    cls, usual = KINDS[kind]
    return cls(**{**usual, **settings})


@pytest.fixture(params=FIRST)
def kind(request):
    return request.param


@pytest.fixture
def lines(monkeypatch):
    """What the log is told."""
    said = []
    place = 'mmv2m.models.backbones.incoming.print_log'
    monkeypatch.setattr(place, lambda line, **_: said.append(line))
    return said


@pytest.mark.parametrize('channels', [1, 2, 4, 7])
def test_weights_are_inflated_as_timm_does_it(kind, channels, lines):
    timm = pytest.importorskip('timm.models')
    source, model = build(kind), build(kind, in_channels=channels)
    weights = source.state_dict()
    before = weights[FIRST[kind]].clone()
    model.load_state_dict(weights)
    found = model.state_dict()
    expected = timm.adapt_input_conv(channels, before)
    assert found[FIRST[kind]].shape[1] == channels
    assert torch.allclose(found[FIRST[kind]], expected, atol=1e-7)
    assert all(torch.equal(found[name], weights[name]) for name in found if name != FIRST[kind])
    assert torch.equal(weights[FIRST[kind]], before)
    (line,) = lines
    assert line.startswith(FIRST[kind]) and f'in_channels={channels}' in line


def test_one_channel_gives_what_a_grey_image_gave(kind):
    source = build(kind).eval()
    grey = build(kind, in_channels=1).eval()
    grey.load_state_dict(source.state_dict())
    x = make_image(kind, torch.float32)[:, :1]
    assert torch.allclose(grey(x)[0], source(x.expand(-1, 3, -1, -1))[0], atol=1e-5)


def test_load_from_and_init_cfg(kind, tmp_path, lines):
    weights = {f'backbone.{k}': v + 1 for k, v in build(kind).state_dict().items()}
    path = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=weights), path)
    rgb = weights[f'backbone.{FIRST[kind]}']
    expected = torch.cat((rgb, rgb[:, :1]), 1) * 0.75
    backbone = build(kind, in_channels=4)
    head = dict(type='LinearClsHead', num_classes=2, in_channels=backbone.out_channels[-1])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))
    load_checkpoint(model, path)
    assert torch.allclose(model.backbone.state_dict()[FIRST[kind]], expected)
    assert lines[-1].startswith(f'backbone.{FIRST[kind]}') and len(lines) == 1

    for prefix in (None, 'backbone.'):
        init_cfg = dict(type='Pretrained', checkpoint=path, prefix=prefix)
        built = build(kind, in_channels=4, init_cfg=init_cfg)
        built.init_weights()
        assert torch.allclose(built.state_dict()[FIRST[kind]], expected)


def test_resuming_four_channels_changes_nothing(kind, lines):
    source = build(kind, in_channels=4)
    model = copy.deepcopy(source)
    model.load_state_dict(source.state_dict())
    assert torch.equal(model.state_dict()[FIRST[kind]], source.state_dict()[FIRST[kind]])
    assert not lines


def test_four_channels_do_not_become_three(kind, tmp_path):
    torch.save(build(kind, in_channels=4).state_dict(), tmp_path / 'four.pth')
    with pytest.raises(RuntimeError, match=r'size mismatch.*only weights for 3 channels'):
        load_checkpoint(build(kind), str(tmp_path / 'four.pth'))
