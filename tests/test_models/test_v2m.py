import copy

import pytest
import torch
from torch import nn

from mmv2m.models import V2M
from mmv2m.ops import BACKENDS

ARCH = dict(embed_dims=16, depths=(1, 1, 1, 1), state_dims=2)
CLASS_TOKENS = ['middle', 'edge', 'mean']
OUT_TYPES = ['raw', 'cls_token', 'featmap', 'avg_featmap']
ALL_STAGES = (0, 1, 2, 3)


def make(**settings):
    torch.manual_seed(0)
    return V2M(**{**dict(arch=ARCH, img_size=32, patch_size=8), **settings})


@pytest.mark.parametrize(('arch', 'width', 'millions'), [('tiny', 192, 6.85), ('small', 384, 25.2)])
def test_params_of_the_table(arch, width, millions):
    model = nn.ModuleList([V2M(arch, class_token='mean'), nn.Linear(width, 1000)])
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize('class_token', CLASS_TOKENS)
@pytest.mark.parametrize('size', [(32, 32), (32, 48), (30, 41), (8, 8), (64, 40)])
def test_shapes(class_token, size):
    rows, columns = (-(-side // 8) for side in size)
    added = 0 if class_token == 'mean' else 1
    tokens = (rows + added) * (columns + added)
    shapes = dict(
        raw=(2, tokens, 16), cls_token=(2, 16), featmap=(2, 16, rows, columns), avg_featmap=(2, 16)
    )
    x = torch.rand(2, 3, *size)
    one_block = dict(arch=dict(ARCH, depths=(1, 0, 0, 0)), out_indices=0, class_token=class_token)
    for out_type, shape in shapes.items():
        with torch.no_grad():
            (y,) = make(**one_block, out_type=out_type)(x)
        assert y.shape == shape
        assert torch.isfinite(y).all()


@pytest.mark.parametrize(
    ('out_indices', 'expected'),
    [(-1, (3,)), (1, (1,)), (ALL_STAGES, ALL_STAGES), ([-1, 0], (0, 3))],
)
def test_out_indices(out_indices, expected):
    given = copy.copy(out_indices)
    model = make(out_indices=out_indices)
    assert model.out_indices == expected
    assert out_indices == given
    assert len(model(torch.rand(1, 3, 32, 32))) == len(expected)
    assert len(model.stages) == max(expected) + 1


def test_an_output_does_not_depend_on_which_others_are_asked_for():
    x = torch.rand(1, 3, 32, 32)
    every, last = make(out_indices=ALL_STAGES), make()
    last.load_state_dict(
        {k: v for k, v in every.state_dict().items() if 'norm' not in k[:4]}, False
    )
    assert torch.equal(every(x)[-1], last(x)[0])


@pytest.mark.parametrize('class_token', CLASS_TOKENS)
@pytest.mark.parametrize('out_type', OUT_TYPES)
@pytest.mark.parametrize('out_indices', [(3,), (1,), ALL_STAGES])
def test_every_parameter_has_a_gradient(class_token, out_type, out_indices):
    model = make(class_token=class_token, out_type=out_type, out_indices=out_indices)
    sum(y.square().sum() for y in model(torch.rand(1, 3, 32, 40))).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize('frozen_stages', range(-1, 5))
def test_frozen_stages(frozen_stages):
    model = make(frozen_stages=frozen_stages, out_indices=ALL_STAGES, drop_rate=0.5).train()
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


def test_checkpointing_changes_no_gradient():
    x = torch.rand(2, 3, 32, 32)
    gradients = []
    for with_cp in (False, True):
        model = make(with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(1)
        model(x)[0].square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_drop_path_grows_linearly():
    model = make(arch=dict(ARCH, depths=(1, 2, 1, 1)), drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for stage in model.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_norm_eval():
    model = make(norm_eval=True)
    model.add_module('extra', nn.BatchNorm1d(2))
    model.train()
    assert model.training
    assert not model.extra.training


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    x = torch.rand(1, 3, 32, 32)
    model = make()
    (expected,) = model(x)
    (y,) = model.to(dtype)(x.to(dtype))
    assert y.dtype == dtype  # what a head of the same dtype takes
    assert torch.allclose(y.float(), expected, atol=0.1)


def test_autocast_keeps_the_residual_exact():
    with torch.autocast('cpu', torch.bfloat16):
        model = make()
        (y,) = model(torch.rand(1, 3, 32, 32))
    assert y.dtype == torch.float32
    y.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize('x', [torch.rand(3, 32, 32), torch.rand(1, 1, 32, 32)])
def test_images_of_the_wrong_shape(x):
    with pytest.raises(ValueError, match=r'takes images as \(B, 3, H, W\), but got'):
        make()(x)


def test_empty_batch():
    (y,) = make()(torch.rand(0, 3, 32, 32))
    assert y.shape == (0, 16)


def test_compiled_model_agrees():
    model, x = make().eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        compiled = torch.compile(model, backend='eager', fullgraph=True)(x)
        assert torch.equal(compiled[0], model(x)[0])


def test_exported_model_takes_any_batch():
    model = make().eval()
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
        (dict(corners=('UL', 'XX')), ValueError, 'corners must be'),
        (dict(class_token='corner'), ValueError, 'class_token must be one of middle, edge, mean'),
        (dict(out_type='map'), ValueError, 'out_type must be one of raw'),
        (dict(out_indices=(4,)), ValueError, 'out_indices must be stages from 0 to 3'),
        (dict(out_indices=()), ValueError, 'out_indices must be stages from 0 to 3'),
        (dict(frozen_stages=5), ValueError, 'frozen_stages must be one of -1, 0'),
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
