"""Official segmentors' checkpoints load as they are and make the features of a plain model.

The official code itself is compared by tools/benchmarks/official_dense.py.
"""

import made_weights
import naive
import naive_maps
import naive_sequence
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint

import mmv2m.models  # noqa: F401

DENSE = dict(out_type='featmap', out_indices=(0, 1, 2, 3))
SIZES = dict(embed_dims=8, depths=(1, 1, 1, 1))
SCANS = (
    ('h', 'v', 'w2', 'w3'),
    ('h_flip', 'v_flip', 'w2_flip', 'h'),
    *(('h', 'v', 'w2', 'w3'),) * 2,
)
NORM = dict(type='BN')


def norms(names, widths):
    shapes = {}
    for name, width in zip(names, widths, strict=True):
        shapes |= made_weights.norm(name, width)
    return made_weights.random_weights(shapes, seed=3)


def drop(weights, *starts):
    return {key: value for key, value in weights.items() if not key.startswith(starts)}


def as_maps(tokens, side):
    return [x.T.unflatten(1, (side, side)) for x in tokens]


def vmamba():
    weights = made_weights.vmamba_weights(8, (1, 1, 1, 1), expand=1, states=1)
    names = [f'outnorm{i}' for i in range(4)]
    weights = drop(weights, 'classifier.') | norms(names, (8, 16, 32, 64))
    image = torch.randn(3, 32, 36, dtype=torch.float64)
    maps = naive_maps.vmamba_stages(weights, image)
    outs = [naive_maps.layer_norm(x, weights, name) for x, name in zip(maps, names, strict=True)]
    return weights, dict(type='VMamba', arch=dict(SIZES, ffn_ratio=2)), image, outs


def vim():
    weights = drop(naive_sequence.vim_weights(9), 'head.', 'cls_token')
    weights['pos_embed'] = weights['pos_embed'][:, 1:]
    image = torch.randn(3, 12, 12, dtype=torch.float64)
    patch = [weights[f'patch_embed.proj.{kind}'] for kind in ('weight', 'bias')]
    x, _ = naive_sequence.patches(image, *patch, 4)
    _, added = naive_sequence.vim_blocks(weights, x + weights['pos_embed'][0], 4)
    weights |= made_weights.random_weights(
        {f'fpn1.{i}.weight': (8, 8, 2, 2) for i in (0, 3)}
        | {f'fpn1.{i}.bias': (8,) for i in (0, 3)}
        | made_weights.batch_norm('fpn1.1', 8)
        | {'fpn2.0.weight': (8, 8, 2, 2), 'fpn2.0.bias': (8,)}
    )
    config = dict(type='Vim', class_token='mean', out_features='mixer', img_size=12, patch_size=4)
    return weights, dict(config, arch=dict(SIZES, state_dims=2)), image, as_maps(added, 3)


def local_vim():
    weights = drop(naive_sequence.local_vim_weights(3), 'head.', 'norm_f.')
    names = [f'outnorm_{i}' for i in range(4)]
    weights |= norms(names, [8] * 4)
    weights |= {f'layers.{k}.norm.bias': torch.randn(8, dtype=torch.float64) for k in range(4)}
    image = torch.randn(3, 12, 12, dtype=torch.float64)
    _, added = naive_sequence.local_vim_blocks(weights, image, SCANS)
    outs = [
        naive_sequence.layer_norm(x, weights[f'{name}.weight'], weights[f'{name}.bias'])
        for x, name in zip(added, names, strict=True)
    ]
    arch = dict(SIZES, state_dims=2, scans=SCANS)
    config = dict(type='LocalVim', out_features='mixer', norm_cfg=dict(type='LN'), arch=arch)
    return weights, dict(config, img_size=12, patch_size=4), image, as_maps(outs, 3)


def plain_mamba():
    weights = made_weights.plain_mamba_weights(8, 8, side=2, states=1)
    weights = naive_maps.weights_under(drop(weights, 'head.'), 'backbone.')
    names = [*(f'norm_layer{i}' for i in (1, 3, 5)), 'ln1']
    weights |= norms(names, [8] * 4)
    image = torch.randn(3, 32, 32, dtype=torch.float64)
    maps = naive_maps.plain_mamba_blocks(weights, image)[1::2]
    outs = [
        naive_maps.layer_norm(x, weights, name, 1e-6) for x, name in zip(maps, names, strict=True)
    ]
    arch = dict(SIZES, depths=(2, 2, 2, 2), state_dims=1, stem_convs=1, conv_behind_first=True)
    return weights, dict(type='PlainMamba', arch=arch, img_size=32), image, outs


FAMILIES = dict(vmamba=vmamba, vim=vim, local_vim=local_vim, plain_mamba=plain_mamba)


def segmentor(backbone, widths):
    """An EncoderDecoder with a small UPerNet, and Vim's neck."""
    head = dict(num_classes=3, norm_cfg=NORM, align_corners=False)
    model = dict(
        type='EncoderDecoder',
        backbone=dict(backbone, **DENSE),
        decode_head=dict(
            **head, type='UPerHead', in_channels=widths, in_index=[0, 1, 2, 3], channels=4
        ),
        auxiliary_head=dict(
            **head, type='FCNHead', in_channels=widths[2], in_index=2, channels=4, num_convs=1
        ),
        test_cfg=dict(mode='whole'),
    )
    if backbone['type'] == 'Vim':
        pyramid = dict(type='Feature2Pyramid', embed_dim=8, rescales=[4, 2, 1, 0.5])
        model['neck'] = dict(pyramid, norm_cfg=NORM)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return revert_sync_batchnorm(MODELS.build(model))


@pytest.mark.parametrize('family', FAMILIES)
def test_a_segmentors_checkpoint_loads_as_it_is(family, tmp_path):
    torch.manual_seed(0)
    weights, backbone, image, outs = FAMILIES[family]()
    model = segmentor(backbone, [len(x) for x in outs]).double().eval()
    # Heads are mmseg's own here and there; the authors' files hold more than weights.
    heads = {k: v + 1 for k, v in model.state_dict().items() if 'head' in k}
    official = {f'backbone.{key}': value for key, value in weights.items()} | heads
    saved = dict(meta=dict(config='...'), state_dict=official, optimizer=dict(state={}))
    torch.save(saved, tmp_path / 'official.pth')

    load_checkpoint(model, str(tmp_path / 'official.pth'), strict=True)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in heads.items())
    with torch.no_grad():
        found = model.backbone(image[None])
        logits = model.encode_decode(image[None], [dict(img_shape=image.shape[1:])])
    for x, expected in zip(found, outs, strict=True):
        assert naive.relative_error(x[0], expected) < 1e-10
    assert logits.shape == (1, 3, *image.shape[1:])
    if family == 'vim':
        fpn = [weights[f'fpn2.0.{kind}'] for kind in ('weight', 'bias')]
        wanted = F.conv_transpose2d(outs[1][None], *fpn, stride=2)
        assert naive.relative_error(model.neck(found)[1], wanted) < 1e-10


@pytest.mark.parametrize('family', FAMILIES)
def test_a_backbone_takes_its_part_of_a_segmentors_file(family, tmp_path):
    weights, backbone, image, outs = FAMILIES[family]()
    official = {f'backbone.{key}': value for key, value in weights.items()}
    torch.save(dict(state_dict=official | {'decode_head.x': torch.zeros(1)}), tmp_path / 'x.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'), prefix='backbone.')
    model = MODELS.build(dict(backbone, **DENSE, init_cfg=init))
    model.init_weights()
    with torch.no_grad():
        found = model.double().eval()(image[None])
    assert all(naive.relative_error(x[0], y) < 1e-5 for x, y in zip(found, outs, strict=True))


@pytest.mark.parametrize('family', ['vim', 'local_vim'])
@pytest.mark.parametrize('with_cp', [False, True])
def test_what_the_mixers_add_has_gradients(family, with_cp):
    _, backbone, image, outs = FAMILIES[family]()
    model = MODELS.build(dict(backbone, **DENSE, with_cp=with_cp, drop_path_rate=0.5)).double()
    found = model.train()(image[None])
    assert [x.shape for x in found] == [(1, *y.shape) for y in outs]
    sum(x.square().sum() for x in found).backward()
    assert all(p.grad is not None for p in model.parameters())
