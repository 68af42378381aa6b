import copy

import pytest
import torch
from small_models import ARCHS, CLASS_TOKENS, PLAIN, STRIDES, WIDTHS, make
from torch import nn
from torch._subclasses import FakeTensorMode

from mmv2m.models import V2M
from mmv2m.models.backbones.arch import ARCH_ZOO
from mmv2m.models.layers import V2MBlock
from mmv2m.ops import BACKENDS
from mmv2m.utils.complexity import measure_complexity

OUT_TYPES = ['raw', 'cls_token', 'featmap', 'avg_featmap']
ALL_STAGES = (0, 1, 2, 3)
KINDS = list(ARCHS)
KINDS_AND_TOKENS = [(kind, token) for kind in KINDS for token in CLASS_TOKENS[kind]]


class Classifier(nn.Module):
    def __init__(self, arch, class_token):
        super().__init__()
        self.backbone = V2M(arch, class_token=class_token)
        self.head = nn.Linear(self.backbone.out_channels[-1], 1000)

    def forward(self, x):
        return self.head(self.backbone(x)[0])


@pytest.mark.parametrize(
    ('arch', 'class_token', 'params', 'flops', 'printed_params', 'printed_flops'),
    [
        ('tiny', 'middle', 6.86, 1.95, 7, 1.9),
        # The paper's figure for S fits the patches alone: with class tokens there are 7.09 G.
        ('small', 'mean', 25.21, 6.19, 26, 5.9),
        ('local-tiny', 'middle', 8.14, 1.61, 8, 1.8),
        ('local-small', 'middle', 28.55, 5.86, 28, 5.4),
        ('pyramid-small', None, 30.29, 5.05, 30, 5.4),
        ('pyramid-base', None, 50.26, 9.20, 50, 9.6),
    ],
)
def test_params_and_flops_of_table_1(
    arch, class_token, params, flops, printed_params, printed_flops
):
    model = Classifier(arch, class_token)
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes only
        cost = measure_complexity(model, (224, 224))
    assert cost.params / 1e6 == pytest.approx(params, abs=0.006)
    assert cost.params / 1e6 == pytest.approx(printed_params, abs=1)
    assert cost.flops['matmul+conv'] / 1e9 == pytest.approx(flops, abs=0.006)
    assert cost.flops['matmul+conv'] / 1e9 == pytest.approx(printed_flops, rel=0.15)


def test_paper_names():
    assert ARCH_ZOO['small*'] == ARCH_ZOO['pyramid-small']
    assert ARCH_ZOO['base*'] == ARCH_ZOO['pyramid-base']
    assert V2M('Base*', out_indices=0).arch.depths == (2, 2, 15, 2)


@pytest.mark.parametrize(('kind', 'class_token'), KINDS_AND_TOKENS)
@pytest.mark.parametrize('size', [(32, 32), (32, 48), (30, 41), (8, 8), (64, 40)])
def test_shapes(kind, class_token, size):
    depths = (1, 0, 0, 0)
    arch = dict(ARCHS[kind], depths=depths)
    if 'scans' in arch:
        arch['scans'] = arch['scans'][:1]
    x = torch.rand(2, 3, *size)
    for out_type in OUT_TYPES:
        model = make(
            kind, arch=arch, class_token=class_token, out_type=out_type, out_indices=ALL_STAGES
        )
        with torch.no_grad():
            outs = model(x)
        assert model.out_channels == WIDTHS[kind]
        for y, width, stride in zip(outs, WIDTHS[kind], STRIDES[kind], strict=True):
            rows, columns = (-(-side // stride) for side in size)
            added = 0 if class_token == 'mean' else 1
            shapes = dict(
                raw=(2, (rows + added) * (columns + added), width),
                cls_token=(2, width),
                featmap=(2, width, rows, columns),
                avg_featmap=(2, width),
            )
            assert y.shape == shapes[out_type]
            # mmcv's RoIAlign reads a map with other strides wrongly.
            assert out_type != 'featmap' or y.is_contiguous()
            assert torch.isfinite(y).all()


def centre(response):
    """Centroid of a (1, H, W) map, in rows and columns."""
    weight = response[0] / response.sum()
    rows, columns = (torch.arange(float(side)) for side in weight.shape)
    return torch.stack([(weight.sum(1) * rows).sum(), (weight.sum(0) * columns).sum()])


def shifts_of_features(kind, size, **settings):
    """How far each stage's features move with an object that moves 32 pixels up and 64 right."""
    model = make(kind, class_token='mean', out_type='featmap', out_indices=ALL_STAGES, **settings)
    for block in model.eval().modules():
        if isinstance(block, V2MBlock):  # to see what the mixers do, and not the residual
            block.mixer.out_proj.weight.data *= 10
    torch.manual_seed(1)
    background, thing = torch.randn(1, 3, *size) / 4, 3 * torch.randn(1, 3, 32, 32)

    def centres(row, column):
        image = background.clone()
        image[..., row : row + 32, column : column + 32] = thing
        with torch.no_grad():
            pairs = zip(model(image), model(background), strict=True)
            return [centre((y - z).square().sum(1)) for y, z in pairs]

    both = zip(centres(32, 96), centres(64, 32), STRIDES[kind], strict=True)
    return torch.stack([(after - before) * stride for after, before, stride in both])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('size', [(160, 160), (128, 192), (122, 186)])
def test_features_move_with_the_object(kind, size):
    error = shifts_of_features(kind, size) - torch.tensor([-32.0, 64.0])
    assert error.abs().max() < 16  # half a cell of the coarsest map


def test_features_of_the_released_geometry_do_not():
    error = shifts_of_features('plain', (160, 160), geometry='released')[1:]
    assert ((error - torch.tensor([-32.0, 64.0])).abs().amax(1) > 16).all()


@pytest.mark.parametrize(
    ('out_indices', 'expected'),
    [(-1, (3,)), (1, (1,)), (ALL_STAGES, ALL_STAGES), ([-1, 0], (0, 3))],
)
@pytest.mark.parametrize('kind', KINDS)
def test_out_indices(kind, out_indices, expected):
    given = copy.copy(out_indices)
    model = make(kind, out_indices=out_indices)
    assert model.out_indices == expected
    assert out_indices == given
    assert len(model(torch.rand(1, 3, 32, 32))) == len(expected)
    assert len(model.stages) == max(expected) + 1


@pytest.mark.parametrize('kind', KINDS)
def test_an_output_does_not_depend_on_which_others_are_asked_for(kind):
    x = torch.rand(1, 3, 32, 32)
    every, last = make(kind, out_indices=ALL_STAGES), make(kind)
    last.load_state_dict(
        {k: v for k, v in every.state_dict().items() if 'norm' not in k[:4]}, False
    )
    assert torch.equal(every(x)[-1], last(x)[0])


@pytest.mark.parametrize(('kind', 'class_token'), KINDS_AND_TOKENS)
@pytest.mark.parametrize('out_type', OUT_TYPES)
@pytest.mark.parametrize('out_indices', [(3,), (1,), ALL_STAGES])
def test_every_parameter_has_a_gradient(kind, class_token, out_type, out_indices):
    model = make(kind, class_token=class_token, out_type=out_type, out_indices=out_indices)
    sum(y.square().sum() for y in model(torch.rand(1, 3, 32, 40))).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('frozen_stages', range(-1, 5))
def test_frozen_stages(kind, frozen_stages):
    model = make(kind, frozen_stages=frozen_stages, out_indices=ALL_STAGES, drop_rate=0.5).train()
    stem = [model.patch_embed, model.pos_embed, model.class_token, model.drop_after_pos]
    for module in stem:
        assert module.training == (frozen_stages < 0)
        assert all(p.requires_grad == (frozen_stages < 0) for p in module.parameters())
    for i in ALL_STAGES:
        for module in (model.stages[i], getattr(model, f'norm{i}')):
            assert module.training == (i >= frozen_stages)
            assert all(p.requires_grad == (i >= frozen_stages) for p in module.parameters())
    if frozen_stages < 4:
        sum(y.sum() for y in model(torch.rand(1, 3, 32, 32))).backward()
        missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing


@pytest.mark.parametrize('kind', KINDS)
def test_checkpointing_changes_no_gradient(kind):
    x = torch.rand(2, 3, 32, 32)
    gradients = []
    for with_cp in (False, True):
        model = make(kind, with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(1)
        model(x)[0].square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize('kind', ['plain', 'pyramid'])
def test_drop_path_grows_linearly(kind):
    model = make(kind, arch=dict(ARCHS[kind], depths=(1, 2, 1, 1)), drop_path_rate=0.4)
    blocks = [module for module in model.modules() if isinstance(module, V2MBlock)]
    expected = pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [block.drop_path.drop_prob for block in blocks] == expected
    if kind == 'pyramid':
        assert [block.ffn.dropout_layer.drop_prob for block in blocks] == expected


def test_norm_eval():
    model = make(norm_eval=True)
    model.add_module('extra', nn.BatchNorm1d(2))
    model.train()
    assert model.training
    assert not model.extra.training


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(kind, dtype):
    x = torch.rand(1, 3, 32, 32)
    model = make(kind)
    (expected,) = model(x)
    (y,) = model.to(dtype)(x.to(dtype))
    assert y.dtype == dtype  # what a head of the same dtype takes
    assert torch.allclose(y.float(), expected, atol=0.1)


@pytest.mark.parametrize('kind', KINDS)
def test_autocast_keeps_the_residual_exact(kind):
    with torch.autocast('cpu', torch.bfloat16):
        model = make(kind)
        (y,) = model(torch.rand(1, 3, 32, 32))
    assert y.dtype == torch.float32
    y.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize('x', [torch.rand(3, 32, 32), torch.rand(1, 1, 32, 32)])
def test_images_of_the_wrong_shape(x):
    with pytest.raises(ValueError, match=r'takes images as \(B, 3, H, W\), but got'):
        make()(x)


@pytest.mark.parametrize('kind', KINDS)
def test_empty_batch(kind):
    (y,) = make(kind)(torch.rand(0, 3, 32, 32))
    assert y.shape == (0, WIDTHS[kind][-1])


@pytest.mark.parametrize('kind', KINDS)
def test_compiled_model_agrees(kind):
    torch._dynamo.reset()  # sizes that other tests compiled for would make these unknown
    model, x = make(kind, out_indices=1).eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        compiled = torch.compile(model, backend='eager', fullgraph=True)(x)
        assert torch.equal(compiled[0], model(x)[0])


@pytest.mark.parametrize('kind', KINDS)
def test_exported_model_takes_any_batch(kind):
    model = make(kind, out_indices=1).eval()
    batch = torch.export.Dim('batch', min=1, max=8)
    exported = torch.export.export(model, (torch.rand(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    x = torch.rand(5, 3, 32, 32)
    assert torch.allclose(exported.module()(x)[0], model(x)[0])


@pytest.mark.parametrize(
    ('settings', 'error', 'words'),
    [
        (dict(arch='huge'), ValueError, "arch must be one of .*tiny.*'huge'"),
        (dict(arch=3), TypeError, 'arch must be a name or a dict'),
        (dict(arch=dict(embed_dim=8, depths=(1, 1, 1, 1))), ValueError, "mean 'embed_dims'"),
        (dict(arch=dict(embed_dims=8)), ValueError, 'arch lacks depths'),
        (dict(arch=dict(embed_dims=8, depths=(1, 1))), ValueError, 'four numbers of blocks'),
        (dict(arch=dict(embed_dims=8, depths=(0,) * 4)), ValueError, 'four numbers of blocks'),
        (dict(arch=dict(embed_dims=0, depths=(1,) * 4)), ValueError, 'embed_dims must be a pos'),
        (dict(arch=dict(PLAIN, layout='flat')), ValueError, 'layout must be one of plain, pyramid'),
        (
            dict(arch=dict(PLAIN, layout='pyramid', embed_dims=9)),
            ValueError,
            "pyramid's embed_dims must be even, but is 9",
        ),
        (dict(arch=dict(PLAIN, share='some')), ValueError, 'share must be one of all, opposite'),
        (dict(arch=dict(PLAIN, orders='two')), ValueError, 'orders must be one of one, both'),
        (dict(arch=dict(PLAIN, merge='max')), ValueError, 'merge must be one of sum, mean'),
        (
            dict(arch=dict(PLAIN, merge='mean'), geometry='released', class_token='mean'),
            ValueError,
            'plain models, the only ones',
        ),
        (
            dict(arch=dict(PLAIN, gated='no')),
            ValueError,
            "gated must be True or False, but is 'no'",
        ),
        (dict(arch=dict(PLAIN, dt_rank=0)), ValueError, 'dt_rank must be a positive integer'),
        (dict(arch=dict(PLAIN, ffn_ratio=-1)), ValueError, 'ffn_ratio must be a number from 0'),
        (dict(arch=dict(PLAIN, ffn_ratio=True)), ValueError, 'ffn_ratio must be a number from 0'),
        (
            dict(arch=dict(PLAIN, ffn_ratio=0.01)),
            ValueError,
            'an MLP of at least one channel.*0.01',
        ),
        (dict(arch=dict(PLAIN, scans=[['h']])), ValueError, 'scans must be 4 sequences of names'),
        (dict(arch=dict(PLAIN, scans=['h'] * 4)), ValueError, 'scans of a block must be names'),
        (dict(arch=dict(PLAIN, scans=[['h']] * 4, orders='both')), ValueError, 'name their order'),
        (dict(arch=dict(PLAIN, scans=[['h']] * 4, share='none')), ValueError, "share at 'all'"),
        (dict(arch=dict(PLAIN, scans=[['x']] * 4)), ValueError, "h, v or w<side>, .*'x'"),
        (dict(arch='pyramid-small', class_token='edge'), ValueError, 'a pyramid has no class tok'),
        (dict(arch='small*', patch_size=16), ValueError, 'tokens of 4 x 4 pixels.*16'),
        (dict(arch='local-tiny', corners=('UL',)), ValueError, 'corners do not go with an arch'),
        (
            dict(arch='local-tiny', geometry='released', class_token='mean'),
            ValueError,
            'plain models, the only ones',
        ),
        (dict(arch='base*', geometry='released'), ValueError, 'plain models, the only ones'),
        (dict(corners=('UL', 'XX')), ValueError, 'corners must be'),
        (dict(class_token='corner'), ValueError, 'class_token must be one of middle, edge, mean'),
        (dict(out_type='map'), ValueError, 'out_type must be one of raw'),
        (dict(out_indices=(4,)), ValueError, 'out_indices must be stages from 0 to 3'),
        (dict(out_indices=()), ValueError, 'out_indices must be stages from 0 to 3'),
        (dict(frozen_stages=5), ValueError, 'frozen_stages must be one of -1, 0'),
        (dict(frozen_stages=2.0), ValueError, 'frozen_stages must be one of -1, 0.* 2.0'),
        (dict(frozen_stages=True), ValueError, 'frozen_stages must be one of -1, 0.* True'),
        (dict(norm_eval=None), ValueError, 'norm_eval must be True or False, but got None'),
        (dict(with_cp='False'), ValueError, "with_cp must be True or False, but got 'False'"),
        (dict(out_indices=True), ValueError, 'out_indices must be stages from 0 to 3'),
        (dict(out_indices=(1.0,)), ValueError, 'out_indices must be stages from 0 to 3'),
        (dict(out_indices='3'), ValueError, 'out_indices must be stages from 0 to 3'),
        (dict(corners=3), ValueError, 'corners must be a sequence'),
        (dict(corners=[['UL']]), ValueError, 'corners must be a sequence'),
        (dict(img_size=(32,)), ValueError, 'img_size one or two'),
        (dict(img_size=(32, 32, 32)), ValueError, 'img_size one or two'),
        (dict(img_size='32'), ValueError, 'img_size and patch_size must be positive'),
        (dict(img_size=0), ValueError, 'img_size and patch_size must be positive'),
        (dict(geometry='released'), ValueError, "class_token='mean'"),
        (
            dict(geometry='released', class_token='mean', img_size=(32, 64)),
            ValueError,
            'square images',
        ),
        (dict(geometry='round'), ValueError, 'geometry must be one of'),
        (dict(in_channels=0), ValueError, 'in_channels must be a positive integer, but got 0'),
        (dict(in_channels=3.0), ValueError, 'in_channels must be a positive integer'),
        (dict(drop_rate=1.0), ValueError, 'drop_rate must be a number from 0 to below 1, .* 1.0'),
        (dict(drop_path_rate=-0.1), ValueError, 'drop_path_rate must be a number from 0'),
        (dict(drop_path_rate='0.1'), ValueError, 'drop_path_rate must be a number from 0'),
        (dict(scan_backend='opencl'), ValueError, "scan_backend must be one of auto, .*'opencl'"),
        (dict(norm_cfg='LN'), ValueError, "norm_cfg must be None or a dict with a type.*'LN'"),
        (dict(norm_cfg=dict(eps=1e-6)), ValueError, 'norm_cfg must be None or a dict with a type'),
    ],
)
def test_impossible_settings_are_refused_with_and_without_building(settings, error, words):
    for attempt in (V2M.check_settings, V2M):
        with pytest.raises(error, match=words) as caught:
            attempt(**settings)
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('backend', ['auto', *BACKENDS])
def test_every_backend_may_be_asked_for(backend):
    V2M.check_settings(scan_backend=backend)


def test_unknown_setting():
    with pytest.raises(TypeError, match="no setting 'depth'; there are arch"):
        V2M.check_settings(depth=12)


def test_released_geometry_runs():
    (y,) = make(geometry='released', class_token='mean')(torch.rand(1, 3, 32, 32))
    assert y.shape == (1, 16)
