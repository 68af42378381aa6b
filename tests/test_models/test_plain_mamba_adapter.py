"""PlainMamba with an adapter: official detectors' weights, maps of four sizes, gradients.

The official code itself is compared by tools/benchmarks/official_dense.py.
"""

import made_weights
import pytest
import torch
from mmengine.registry import MODELS

import mmv2m.models  # noqa: F401
from mmv2m.utils.official_weights import convert_official_weights, recognise

pytest.importorskip('mmcv._ext', reason='mmcv-lite has no operators')

ARCH = dict(embed_dims=8, depths=(1, 1, 1, 1), state_dims=1, stem_convs=1, conv_behind_first=True)
CONFIG = dict(type='PlainMambaAdapter', arch=ARCH, img_size=32, conv_inplane=4, deform_num_heads=2)
"""Small; what the heads and widths are does not change the names."""


def conv_norm(place, conv, norm, *shape):
    weight = made_weights.layer(f'{place}.{conv}', *shape, bias=False)
    return weight | made_weights.batch_norm(f'{place}.{norm}', shape[0])


def attention(levels):
    shapes = made_weights.norm('query_norm', 8) | made_weights.norm('feat_norm', 8)
    for name, width in dict(
        sampling_offsets=2 * levels * 4 * 2, attention_weights=2 * levels * 4
    ).items():
        shapes |= made_weights.layer(f'attn.{name}', width, 8)
    for name in ('value_proj', 'output_proj'):
        shapes |= made_weights.layer(f'attn.{name}', 8, 8)
    return shapes


def official_weights():
    """What PlainMamba's detectors save of their backbone, in its names and shapes."""
    shapes = {'level_embed': (3, 8)}
    for i, fan in enumerate((3, 4, 4)):
        shapes |= conv_norm('spm.stem', 3 * i, 3 * i + 1, 4, fan, 3, 3)
    for i, (a, b) in {2: (4, 8), 3: (8, 16), 4: (16, 16)}.items():
        shapes |= conv_norm(f'spm.conv{i}', 0, 1, b, a, 3, 3)
    for i, width in enumerate((4, 8, 16, 16), 1):
        shapes |= made_weights.layer(f'spm.fc{i}', 8, width, 1, 1)
        shapes |= made_weights.batch_norm(f'ad_norm{i}', 8)
    shapes |= {'up.weight': (8, 8, 2, 2), 'up.bias': (8,)}
    extractor = attention(1) | made_weights.norm('ffn_norm', 8)
    extractor |= made_weights.layer('ffn.fc1', 2, 8) | made_weights.layer('ffn.fc2', 8, 2)
    extractor |= made_weights.layer('ffn.dwconv.dwconv', 2, 1, 3, 3)
    for i in range(4):
        place = f'interactions.{i}.'
        shapes |= made_weights.under(f'{place}injector.', attention(3) | {'gamma': (8,)})
        shapes |= made_weights.under(f'{place}extractor.', extractor)
        for j in range(2 * (i == 3)):
            shapes |= made_weights.under(f'{place}extra_extractors.{j}.', extractor)
    plain = made_weights.plain_mamba_weights(8, 4, side=2, states=1)
    kept = {k: v for k, v in plain.items() if not k.startswith(('head.', 'backbone.ln1.'))}
    own = made_weights.random_weights(shapes, seed=2)
    return kept | {f'backbone.{key}': value for key, value in own.items()}


def converted():
    weights = official_weights()
    assert recognise(weights) == 'plain-mamba'
    found = convert_official_weights('plain-mamba', weights | {'rpn_head.x': torch.ones(1)})
    assert found.pop('rpn_head.x') == 1
    assert len(found) == len(weights)
    return {key.removeprefix('backbone.'): value for key, value in found.items()}


@pytest.mark.parametrize('size', [(32, 64), (50, 40)])
def test_official_weights_fill_it(size):
    model = MODELS.build(CONFIG).double().eval()
    model.load_state_dict(converted(), strict=True)
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    maps = model(image)
    padded = [-(-side // 32) * 32 for side in size]
    assert [x.shape for x in maps] == [
        (2, 8, padded[0] // stride, padded[1] // stride) for stride in (4, 8, 16, 32)
    ]
    # Every part counts: without it, the maps are others.
    for name in ('level_embed', 'interactions.0.injector.gamma', 'interactions.3.extractors.2.fc2'):
        changed = {k: v * (not k.startswith(name)) for k, v in converted().items()}
        model.load_state_dict(changed)
        assert not torch.allclose(model(image)[3], maps[3])


def test_it_starts_from_a_classifiers_weights(tmp_path):
    plain = made_weights.plain_mamba_weights(8, 4, side=2, states=1)
    torch.save(dict(state_dict=plain), tmp_path / 'official.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'official.pth'), prefix='backbone.')
    model = MODELS.build(dict(CONFIG, init_cfg=init))
    model.init_weights()
    expected = plain['backbone.layers.3.mamba.out_proj.weight'].float()
    assert torch.equal(model.stages[3][0].mixer.out_proj.weight, expected)
    assert not model.interactions[0].injector.gamma.any()


@pytest.mark.parametrize('with_cp', [False, True])
def test_every_parameter_learns(with_cp):
    model = MODELS.build(dict(CONFIG, with_cp=with_cp, out_indices=(0, 1, 2, 3)))
    model.load_state_dict(converted())
    sum(x.sin().sum() for x in model.train()(torch.rand(2, 3, 32, 32))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(('width', 'heads'), [(12, 6), (16, 8)])
def test_heads_are_the_authors(width, heads):
    """6 in L1 and L2; 8 in L3, whose width 6 does not divide."""
    config = {key: value for key, value in CONFIG.items() if key != 'deform_num_heads'}
    model = MODELS.build(dict(config, arch=dict(ARCH, embed_dims=width)))
    assert model.interactions[0].injector.attn.num_heads == heads


def test_what_it_refuses():
    with pytest.raises(ValueError, match='out_type must be one of featmap'):
        MODELS.build(dict(CONFIG, out_type='raw'))
    with pytest.raises(ValueError, match='deform_num_heads must be .* the width 448, but is 6'):
        MODELS.build(dict(type='PlainMambaAdapter', arch='L3', deform_num_heads=6))
    with pytest.raises(ValueError, match=r'PlainMambaAdapter takes images as \(B, 3, H, W\)'):
        MODELS.build(CONFIG)(torch.rand(1, 1, 32, 32))
    model = MODELS.build(dict(CONFIG, out_indices=(1, -1))).eval()
    assert model.out_indices == (1, 3) and len(model(torch.rand(1, 3, 32, 32))) == 2
