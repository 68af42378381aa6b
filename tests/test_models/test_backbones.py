"""What holds for every backbone. A new one joins by a line in ``BACKBONES``."""

import copy
import pickle
from typing import Any, NamedTuple

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.func import functional_call, grad, vmap

from mmv2m.models import V2M, EfficientVMamba, LocalVim, PlainMamba, Vim, VMamba

ALL_STAGES = (0, 1, 2, 3)
PYRAMID, PLAIN = (4, 8, 16, 32), (16,) * 4


class Kind(NamedTuple):
    """A backbone, small settings of it, and what its four stages then make."""

    cls: type
    settings: dict[str, Any]
    widths: tuple[int, ...]
    strides: tuple[int, ...]


def plain(width, **arch):
    return dict(arch=dict(embed_dims=width, depths=(1, 1, 1, 1), state_dims=2, **arch), img_size=32)


def pyramid(width, **arch):
    return dict(arch=dict(embed_dims=width, depths=(1, 1, 1, 1), **arch))


SCANS = (('h', 'v_flip'), ('h_flip', 'w2'), ('w7', 'v'), ('w2_flip', 'h'))
BACKBONES = dict(
    V2M=Kind(V2M, plain(16) | dict(class_token='mean'), (16,) * 4, PLAIN),
    Vim=Kind(Vim, plain(16) | dict(class_token='mean'), (16,) * 4, PLAIN),
    LocalVim=Kind(LocalVim, plain(16, scans=SCANS), (16,) * 4, PLAIN),
    VMamba=Kind(VMamba, pyramid(8, expand=2), (8, 16, 32, 64), PYRAMID),
    PlainMamba=Kind(PlainMamba, plain(16, conv_behind_first=True), (16,) * 4, PLAIN),
    EfficientVMamba=Kind(EfficientVMamba, pyramid(8, state_dims=2), (8, 16, 32, 64), PYRAMID),
)
every_backbone = pytest.mark.parametrize('name', BACKBONES)


def make(name, **settings):
    torch.manual_seed(0)
    kind = BACKBONES[name]
    return kind.cls(**{**kind.settings, **settings})


def make_dense(name, **settings):
    return make(name, out_indices=ALL_STAGES, out_type='featmap', **settings)


def loss_of(outputs):
    return sum((y.flatten() @ torch.linspace(-1, 1, y.numel()).to(y)) for y in outputs)


@every_backbone
@pytest.mark.parametrize('size', [(32, 32), (64, 32), (30, 41)])
def test_feature_maps(name, size):
    kind = BACKBONES[name]
    with torch.no_grad():
        outs = make_dense(name).eval()(torch.rand(2, 3, *size))
    expected = [
        (2, width, -(-size[0] // stride), -(-size[1] // stride))
        for width, stride in zip(kind.widths, kind.strides, strict=True)
    ]
    assert [tuple(y.shape) for y in outs] == expected
    assert all(torch.isfinite(y).all() for y in outs)


@every_backbone
def test_output_types_agree(name):
    x = torch.rand(2, 3, 32, 48)
    (dense,) = make(name, out_type='featmap').eval()(x)
    (raw,) = make(name, out_type='raw').eval()(x)
    assert torch.equal(raw, dense.flatten(2).transpose(1, 2))
    for out_type in ('avg_featmap', 'cls_token'):
        (vector,) = make(name, out_type=out_type).eval()(x)
        assert torch.allclose(vector, dense.mean((2, 3)), atol=1e-6)
    model = make(name)
    model.out_type = 'map'
    with pytest.raises(ValueError, match='out_type must be one of raw, .* but got'):
        model(x)


@every_backbone
def test_stages_behind_the_last_output_are_not_built(name):
    model, x = make_dense(name).eval(), torch.rand(1, 3, 32, 32)
    first = make(name, out_indices=[0, -3], out_type='featmap').eval()
    with pytest.raises(AttributeError, match=r'build another one with out_indices=\(2, 3\)'):
        first.out_indices = (2, 3)
    assert len(first.stages) == 2
    assert not first.load_state_dict(model.state_dict(), strict=False).missing_keys
    for some, other in zip(first(x), model(x), strict=False):
        assert torch.equal(some, other)


@every_backbone
@pytest.mark.parametrize('size', [(32, 32), (30, 41)])
def test_every_parameter_has_a_gradient(name, size):
    model = make_dense(name).train()
    loss_of(model(torch.rand(2, 3, *size))).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@every_backbone
def test_checkpointing_changes_no_gradient(name):
    x = torch.rand(2, 3, 32, 48)
    gradients = []
    for with_cp in (False, True):
        model = make_dense(name, with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(1)
        loss_of(model(x)).backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@every_backbone
@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_frozen_stages(name, frozen_stages):
    model = make_dense(name, frozen_stages=frozen_stages).train()
    parts = dict.fromkeys(model.stem(), frozen_stages >= 0)
    for i in ALL_STAGES:
        parts |= dict.fromkeys((model.stages[i], getattr(model, f'norm{i}')), i < frozen_stages)
    named = {id(p) for part in parts for p in part.parameters()}
    assert named == {id(p) for p in model.parameters()}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    outs = model(torch.rand(2, 3, 32, 32))
    for part, frozen in parts.items():
        assert part.training is not frozen
        assert all(p.requires_grad is not frozen for p in part.parameters())
    if frozen_stages < 4:
        loss_of(outs).backward()
        assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if frozen_stages == 4:  # running statistics stay as well
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@every_backbone
def test_norm_eval(name):
    model = make(name, norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (name in ('PlainMamba', 'EfficientVMamba'))
    assert not any(m.training for m in norms)


@every_backbone
def test_drop_path_grows_linearly(name):
    model = make(name, drop_path_rate=0.3)
    rates = [
        block.drop_path.drop_prob
        for stage in model.stages
        for block in stage
        if hasattr(block, 'drop_path')
    ]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


@every_backbone
def test_weights_and_copies_round_trip(name, tmp_path):
    model, x = make(name).train(), torch.rand(2, 3, 32, 32)
    model(x)  # moves running statistics
    torch.save(model.eval().state_dict(), tmp_path / 'model.pth')
    loaded = make(name).eval()
    loaded.load_state_dict(torch.load(tmp_path / 'model.pth'))
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x)[0], model(x)[0])


@every_backbone
@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(name, dtype):
    model, x = make(name).eval(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        (expected,) = model(x)
        (y,) = model.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    assert torch.allclose(y.float(), expected, atol=0.1)


@every_backbone
def test_autocast(name):
    model, x = make(name).train(), torch.rand(2, 3, 32, 32)
    with torch.autocast('cpu', torch.bfloat16):
        loss = loss_of(model(x))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@every_backbone
def test_kernels_agree_with_the_reference(name):
    pytest.importorskip('triton')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'  # else Triton's interpreter
    x, results = torch.rand(1, 3, 16, 24).to(device), []
    for backend in ('reference', 'triton'):
        model = make(name, out_indices=0, out_type='featmap', scan_backend=backend).to(device)
        # In training, gradients of biases in front of batch norms are nothing but rounding.
        (y,) = model.eval()(x)
        loss_of([y]).backward()
        results.append((y, *(p.grad for p in model.parameters())))
    for truth, value in zip(*results, strict=True):
        assert torch.allclose(truth, value, rtol=1e-3, atol=1e-5 * truth.abs().max().item() + 1e-6)


@every_backbone
def test_compiles_as_one_graph(name):
    model, x = make(name).eval(), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        compiled = torch.compile(model, backend='eager', fullgraph=True)(x)
        assert torch.allclose(compiled[0], model(x)[0], atol=1e-6)


@every_backbone
@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
def test_registered_for_every_library(name, scope):
    for spelled in (name, f'mmv2m.{name}'):
        with DefaultScope.overwrite_default_scope(scope):
            assert MODELS.get(spelled) is BACKBONES[name].cls


@every_backbone
@pytest.mark.parametrize(
    ('settings', 'error', 'words'),
    [
        (dict(arch='huge'), ValueError, "arch must be one of .*'huge'"),
        (dict(arch=3), TypeError, 'arch must be a name or a dict'),
        (dict(arch=dict(embed_dim=8, depths=(1, 1, 1, 1))), ValueError, "mean 'embed_dims'"),
        (dict(arch=dict(embed_dims=8)), ValueError, 'arch lacks depths'),
        (dict(arch=dict(embed_dims=8, depths=(1, 1))), ValueError, 'four numbers of blocks'),
        (dict(arch=dict(embed_dims=0, depths=(1,) * 4)), ValueError, 'embed_dims must be a pos'),
        (dict(out_type='map'), ValueError, 'out_type must be one of'),
        (dict(out_indices=(4,)), ValueError, 'out_indices must be stages from 0 to 3'),
        (dict(frozen_stages=5), ValueError, 'frozen_stages must be one of -1, 0'),
        (dict(init_cfg='weights.pth'), ValueError, "init_cfg must be .*, but got 'weights.pth'"),
        (dict(init_cfg=[dict(std=0.02)]), ValueError, 'init_cfg must be None or a dict with a typ'),
        (dict(with_cp='False'), ValueError, "with_cp must be True or False, but got 'False'"),
        (dict(drop_path_rate=1.0), ValueError, 'drop_path_rate must be a number from 0'),
        (dict(scan_backend='opencl'), ValueError, 'scan_backend must be one of auto'),
        (dict(norm_cfg='LN'), ValueError, 'norm_cfg must be None or a dict with a type'),
        (dict(norm_cfg=dict(type='BN')), ValueError, 'norm_cfg must name a norm of each token'),
        (dict(norm_cfg=dict(type='GN', num_groups=2)), ValueError, "each token .* 'num_groups': 2"),
        (dict(norm_cfg=dict(type='IN')), ValueError, 'norm_cfg must name a norm of each token'),
    ],
)
def test_impossible_settings_are_refused_with_and_without_building(name, settings, error, words):
    cls = BACKBONES[name].cls
    for attempt in (cls.check_settings, cls):
        with pytest.raises(error, match=words) as caught:
            attempt(**settings)
        assert '\n' not in str(caught.value)


@every_backbone
def test_wrong_images(name):
    model = make(name)
    for shape in ((1, 1, 32, 32), (1, 3, 0, 32), (1, 3, 32, 0)):
        with pytest.raises(ValueError, match=f'{name} takes images as'):
            model(torch.rand(*shape))
    with pytest.raises(TypeError, match=f'{name} takes normalised images .* torch.uint8'):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(TypeError, match=f'{name} takes a batch .* as one tensor, but got a list'):
        model([torch.zeros(3, 32, 32)])


def differentiable(name, batch):
    """A model's parameters by name, images, and their loss, on the reference and without kinks."""
    model = make(name, scan_backend='reference').eval().double()
    for module in [*model.modules()]:
        for child_name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, child_name, nn.Softplus())
    images = torch.rand(batch, 3, 32, 32, dtype=torch.float64)

    def loss(parameters, images):
        return loss_of(functional_call(model, parameters, (images,)))

    return {n: p.detach() for n, p in model.named_parameters()}, images, loss


@every_backbone
def test_gradients_of_each_sample(name):
    parameters, images, loss = differentiable(name, 2)

    def gradients(image):
        return grad(loss)(parameters, image[None])

    found, each = vmap(gradients)(images), [gradients(image) for image in images]
    for n, one in found.items():
        torch.testing.assert_close(one, torch.stack([gradient[n] for gradient in each]))


@every_backbone
def test_gradients_of_gradients(name):
    """Those of the gradient's square, against a difference along some direction."""
    parameters, images, loss = differentiable(name, 1)

    def sum_of_squares(parameters):
        first = torch.autograd.grad(
            loss(parameters, images), [*parameters.values()], create_graph=True
        )
        return sum(g.square().sum() for g in first)

    def moved(by):
        return {n: (p + by * way[n]).requires_grad_() for n, p in parameters.items()}

    way = {n: torch.randn_like(p) for n, p in parameters.items()}
    here = moved(0)
    second = torch.autograd.grad(sum_of_squares(here), [*here.values()], allow_unused=True)
    slope = sum((g * way[n]).sum() for n, g in zip(here, second, strict=True) if g is not None)
    step = 1e-6
    difference = (sum_of_squares(moved(step)) - sum_of_squares(moved(-step))) / (2 * step)
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=0)
