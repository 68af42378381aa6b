import naive
import naive_sequence
import pytest
import torch
from classifier import Classifier

from mmv2m.models import LocalVim
from mmv2m.models.layers import LOCAL_SCANS, RotaryPosition, parse_scans
from mmv2m.utils import CONVERTERS
from mmv2m.utils.complexity import measure_complexity

SCANS = (
    ('h', 'v_flip', 'w2', 'w7_flip'),
    ('h_flip', 'w2_flip', 'w7', 'w7_flip'),
    ('h', 'h_flip', 'v', 'v_flip'),
    ('v', 'w2', 'w2_flip', 'w3'),
)
ARCH = dict(embed_dims=8, depths=(1, 1, 1, 1), state_dims=2, scans=SCANS)


def make(**settings):
    torch.manual_seed(0)
    return LocalVim(**{**dict(arch=ARCH, img_size=12, patch_size=4), **settings})


@pytest.mark.parametrize('side', [3, 4])
def test_agrees_with_the_paper_on_converted_official_weights(side):
    weights = naive_sequence.local_vim_weights(side)
    model = Classifier(make(img_size=4 * side), classes=5).double()
    model.load_state_dict(CONVERTERS['local-vim'](weights))
    image = torch.randn(3, 4 * side, 4 * side, dtype=torch.float64)
    expected = naive_sequence.local_vim(weights, image, SCANS)
    assert naive.relative_error(model(image[None])[0], expected) < 1e-10


@pytest.mark.parametrize(
    ('arch', 'params', 'printed', 'gflops'),
    [('tiny', 7_994_152, 8, 1.4818), ('small', 27_783_784, 28, 4.7713)],
)
def test_params_and_flops_of_the_table(arch, params, printed, gflops):
    with torch.device('meta'):  # nothing is computed
        model = Classifier(LocalVim(arch, scan_backend='reference'), 1000)
        cost = measure_complexity(model, (224, 224))
    assert cost.params == params  # the official code's
    assert round(params / 1e6) == printed
    # The official code counts a scan as 5 L E N and, of each block's convolutions and projections
    # in front of the scans, one direction's only.
    inner, rank = 2 * model.backbone.embed_dims, model.backbone.embed_dims // 16
    repeated = 3 * 20 * 196 * inner * (4 + rank + 2 * 16 + rank)
    scans = cost.flops['matmul+conv+scan'] - cost.flops['matmul+conv']
    by_rule = (cost.flops['matmul+conv'] - repeated + scans * 5 / 9) / 1e9
    assert by_rule == pytest.approx(gflops, rel=0.01)


def test_published_scans():
    for arch in ('tiny', 'small'):
        assert len(LOCAL_SCANS[arch]) == 20
        assert {len(parse_scans(names)) for names in LOCAL_SCANS[arch]} == {4}


def test_scans_without_search():
    model = LocalVim(dict(embed_dims=8, depths=(1, 0, 2, 0)))
    assert model.arch.scans == (('h', 'h_flip', 'w2', 'w2_flip'),) * 3
    assert [len(stage) for stage in model.stages] == [1, 0, 2, 0]


def test_initialisation_spares_the_output_projections_alone():
    model = make(arch=dict(ARCH, embed_dims=32))
    model.init_weights()
    for mixer in (stage[0].mixer for stage in model.stages):
        for scan in mixer.scans:
            assert 0.015 < scan.dt_proj.weight.std() < 0.025
            assert not scan.dt_proj.bias.any()
        bound = 64**-0.5 * 4**-0.5
        assert 0.9 * bound < mixer.out_proj.weight.abs().max() <= bound


def test_rotary_positions_turn_and_keep_lengths():
    rotary = RotaryPosition(8, (3, 5)).double()
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    turned = rotary(x)
    assert torch.equal(turned[:, 0, 0], x[:, 0, 0])
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6)
    expected = torch.stack([naive_sequence.turn(one.flatten(0, 1), 3, 5) for one in x])
    assert naive.relative_error(turned.flatten(1, 2), expected) < 1e-6


def test_rotary_positions_of_another_size_are_interpolated_alike():
    small, large = RotaryPosition(8, (4, 4)), RotaryPosition(8, (6, 8))
    x = torch.randn(1, 6, 8, 8)
    own = large(x)
    large.load_state_dict(small.state_dict())
    assert torch.allclose(large(x), small(x), atol=1e-6)
    assert not torch.allclose(large(x), own, atol=1e-2)


@pytest.mark.parametrize(
    ('settings', 'error', 'words'),
    [
        (dict(arch='base'), ValueError, "arch must be one of t, tiny, s, small .*'base'"),
        (dict(arch=dict(ARCH, embed_dims=6)), ValueError, 'a multiple of 4 for rotary positions'),
        (dict(arch=dict(ARCH, scans=SCANS[:3])), ValueError, 'scans must be 4 sequences of names'),
        (dict(arch=dict(ARCH, depths=(1, 1, 1, 2))), ValueError, 'scans must be 5 sequences'),
        (dict(arch=dict(ARCH, scans=(('x',),) * 4)), ValueError, "or one with _flip; got 'x'"),
        (dict(patch_size=-1), ValueError, 'img_size and patch_size must be positive integers'),
    ],
)
def test_impossible_settings(settings, error, words):
    for attempt in (LocalVim.check_settings, LocalVim):
        with pytest.raises(error, match=words):
            attempt(**settings)
