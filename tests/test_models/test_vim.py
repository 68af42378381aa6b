import naive
import naive_sequence
import pytest
import torch
import torch.nn.functional as F
from classifier import Classifier
from torch import nn

from mmv2m.models import Vim
from mmv2m.models.layers import DirectionalSSM, MiddleToken
from mmv2m.utils import CONVERTERS
from mmv2m.utils.complexity import measure_complexity

ARCH = dict(embed_dims=8, depths=(1, 1, 1, 1), state_dims=2)


def make(**settings):
    torch.manual_seed(0)
    return Vim(**{**dict(arch=ARCH, img_size=12, patch_size=4), **settings})


@pytest.mark.parametrize(('img_size', 'stride', 'tokens'), [(12, 4, 9), (8, 4, 4), (10, 2, 16)])
def test_agrees_with_the_paper_on_converted_official_weights(img_size, stride, tokens):
    weights = naive_sequence.vim_weights(tokens)
    model = Classifier(make(img_size=img_size, stride=stride), classes=5).double()
    model.load_state_dict(CONVERTERS['vim'](weights))
    image = torch.randn(3, img_size, img_size, dtype=torch.float64)
    expected = naive_sequence.vim(weights, image, stride, depth=4)
    assert naive.relative_error(model(image[None])[0], expected) < 1e-10


@pytest.mark.parametrize(
    ('arch', 'params', 'printed', 'gflops'),
    [('tiny', 7_148_008, 7, 1.4826), ('small', 25_796_584, 26, 5.1438)],
)
def test_params_and_flops_of_the_table(arch, params, printed, gflops):
    with torch.device('meta'):  # nothing is computed
        model = Classifier(Vim(arch, scan_backend='reference'), 1000)
        cost = measure_complexity(model, (224, 224))
    assert cost.params == params  # the official code's
    assert round(params / 1e6) == printed
    # The rule behind the printed FLOPs counts a scan as 5 L E N and, of each block's convolutions
    # and projections in front of the scans, one direction's only.
    inner, rank = 2 * model.backbone.embed_dims, model.backbone.embed_dims // 16
    repeated = 24 * 197 * inner * (4 + rank + 2 * 16 + rank)
    scans = cost.flops['matmul+conv+scan'] - cost.flops['matmul+conv']
    by_rule = (cost.flops['matmul+conv'] - repeated + scans * 5 / 9) / 1e9
    assert by_rule == pytest.approx(gflops, rel=0.01)


def test_only_the_scan_forwards_starts_with_special_time_steps():
    model = make(arch=dict(ARCH, embed_dims=32))
    model.init_weights()
    for mixer in (stage[0].mixer for stage in model.stages):
        forwards, backwards = (F.softplus(scan.dt_proj.bias) for scan in mixer.scans)
        assert 1e-3 * 0.99 <= forwards.min() < forwards.max() <= 1e-1 * 1.01
        assert torch.equal(backwards, F.softplus(torch.zeros(64)))
        bound = 64**-0.5 * 4**-0.5
        assert 0.9 * bound < mixer.out_proj.weight.abs().max() <= bound


@pytest.mark.parametrize('grid', [(3, 3), (2, 3), (1, 1), (4, 2)])
def test_where_the_class_token_stands(grid):
    token = MiddleToken(2)
    x = torch.randn(5, *grid, 2)
    sequence = token(x)
    patches = grid[0] * grid[1]
    assert sequence.shape == (5, 1, patches + 1, 2)
    assert torch.equal(sequence[:, 0, patches // 2], (token.token + token.position).expand(5, 2))
    assert torch.equal(token.read(sequence), sequence[:, 0, patches // 2])
    assert torch.equal(token.strip(sequence), x.reshape(5, 1, patches, 2))


@pytest.mark.parametrize('size', [(12, 12), (16, 9)])
def test_outputs_with_a_class_token(size):
    rows, columns = (-(-side // 4) for side in size)
    shapes = dict(
        raw=(2, rows * columns + 1, 8),
        cls_token=(2, 8),
        featmap=(2, 8, rows, columns),
        avg_featmap=(2, 8),
    )
    x = torch.rand(2, 3, *size)
    outs = {out_type: make(out_type=out_type).eval()(x)[0] for out_type in shapes}
    assert {out_type: tuple(y.shape) for out_type, y in outs.items()} == shapes
    middle = rows * columns // 2
    raw, patches = outs['raw'], outs['featmap'].flatten(2).transpose(1, 2)
    assert torch.equal(raw[:, middle], outs['cls_token'])
    assert torch.equal(torch.cat((raw[:, :middle], raw[:, middle + 1 :]), 1), patches)
    assert torch.allclose(patches.mean(1), outs['avg_featmap'], atol=1e-6)


@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'featmap', 'avg_featmap'])
@pytest.mark.parametrize('with_cp', [False, True])
def test_every_parameter_has_a_gradient_with_a_class_token(out_type, with_cp):
    model = make(out_type=out_type, out_indices=(1, 3), with_cp=with_cp).train()
    sum(y.square().sum() for y in model(torch.rand(2, 3, 12, 16))).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_features_align_with_the_image():
    """With scans that see their own token only, what changes in the image changes in the map."""
    model = make(out_type='featmap', out_indices=(0, 3)).eval()
    for module in model.modules():
        if isinstance(module, DirectionalSSM):
            nn.init.constant_(module.dt_proj.bias, 50.0)  # forgets at once
            nn.init.zeros_(module.conv.weight[..., :-1])
    image = torch.randn(1, 3, 12, 20)
    moved = image.clone()
    moved[:, :, 4:8, 12:16] += 1
    for before, after in zip(model(image), model(moved), strict=True):
        assert before.shape == (1, 8, 3, 5)
        changed = (before - after).abs().sum(1)[0] > 1e-6
        assert changed.nonzero().tolist() == [[1, 3]]


def test_patches_of_a_smaller_stride():
    model = make(img_size=24, stride=2)
    assert model.patch_embed.init_out_size == (11, 11)
    features = make(img_size=24, stride=2, out_type='featmap')(torch.rand(1, 3, 23, 3))[0]
    assert features.shape == (1, 8, 11, 1)


def test_dense_backbone_loads_a_classifiers_weights():
    dense = make(class_token='mean', out_indices=(0, 3), out_type='featmap', img_size=24)
    missing = dense.load_state_dict(make().state_dict(), strict=False)
    assert missing.missing_keys == ['norm0.weight']
    assert missing.unexpected_keys == []


@pytest.mark.parametrize(
    ('settings', 'error', 'words'),
    [
        (dict(arch='huge'), ValueError, "arch must be one of t, tiny, s, small, .*'huge'"),
        (dict(arch=dict(ARCH, dt_rank=0)), ValueError, 'dt_rank must be a positive integer'),
        (dict(class_token='edge'), ValueError, 'class_token must be one of middle, mean'),
        (dict(stride=0), ValueError, 'stride must be one of 1, 2, 3, 4, but got 0'),
        (dict(stride=5), ValueError, 'stride must be one of 1, 2, 3, 4, but got 5'),
        (dict(patch_size=0), ValueError, 'img_size and patch_size must be positive integers'),
    ],
)
def test_impossible_settings(settings, error, words):
    for attempt in (Vim.check_settings, Vim):
        with pytest.raises(error, match=words):
            attempt(**{**dict(patch_size=4), **settings})
