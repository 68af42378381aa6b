"""Mixers and models with the exact 2D recurrence, and with both sides in each simplified scan."""

from functools import partial

import naive
import naive_coupled
import pytest
import torch
import torch.nn.functional as F

from mmv2m.deployment import export_onnx, missing_packages
from mmv2m.models import SS2D, V2M
from mmv2m.models.layers import CORNERS, CoupledSSM
from mmv2m.utils.complexity import measure_complexity
from mmv2m.visualization import corner_views

ALL = tuple(CORNERS)
GRIDS = [(3, 3), (2, 4), (5, 3), (1, 4)]
TINY = dict(embed_dims=16, depths=(1, 1, 1, 1), state_dims=2)
PYRAMID = dict(embed_dims=8, depths=(1, 1, 1, 1), layout='pyramid', expand=1, state_dims=1)
PYRAMID |= dict(gated=False, share='opposite', ffn_ratio=2)
PLAIN = dict(img_size=32, patch_size=8)


def make_mixer(**settings):
    torch.manual_seed(0)
    mixer = SS2D(6, **{'states': 3, 'recurrence': 'coupled', **settings}).double()
    for parameter in mixer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return mixer


def make_map(grid, batch=2):
    return torch.randn(batch, *grid, 6, dtype=torch.float64)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('gated', [True, False])
@pytest.mark.parametrize('corners', [ALL[:n] for n in range(1, 5)])
def test_agrees_with_the_equations(grid, gated, corners):
    mixer, x = make_mixer(corners=corners, gated=gated), make_map(grid)
    truth = naive_coupled.coupled_ss2d(mixer, x, dict(all=corners))
    assert naive.relative_error(mixer(x), truth) < 1e-10


def test_corners_that_share_parameters():
    x = make_map((3, 4))
    for share, groups in (
        ('opposite', dict(h=('UL', 'LR'), v=('UR', 'LL'))),
        ('none', dict(ul=('UL',), lr=('LR',), ur=('UR',), ll=('LL',))),
    ):
        mixer = make_mixer(share=share, merge='mean')
        assert list(mixer.ssm) == list(groups)
        truth = naive_coupled.coupled_ss2d(mixer, x, groups)
        assert naive.relative_error(mixer(x), truth) < 1e-10


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('quarters', [1, 2, 3])
def test_four_corners_commute_with_quarter_turns(grid, quarters):
    mixer, x = make_mixer(), make_map(grid)
    turned = mixer(torch.rot90(x, quarters, (1, 2)))
    assert naive.relative_error(torch.rot90(turned, -quarters, (1, 2)), mixer(x)) < 1e-12


def test_one_corner_sees_what_lies_between_it_and_the_token():
    mixer, x = make_mixer(corners=('LR',)), make_map((4, 5), batch=1).requires_grad_()
    mixer(x)[0, 1, 3].sum().backward()
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[1:, 3:] = True
    assert torch.equal(x.grad[0].abs().sum(-1) > 0, expected)


@pytest.mark.parametrize('corners', [ALL, ('LR',), ('UR', 'UL')])
@pytest.mark.parametrize('reduction', ['sum', 'none'])
def test_one_operator_stands_for_all_modules(corners, reduction):
    """And computes what they compute, with the same gradients."""
    (ssm,) = make_mixer(corners=corners).float().ssm.values()
    x, results = torch.randn(2, 3, 4, 12), []
    for watched in (False, True):
        if watched:
            ssm.x_proj.register_forward_hook(lambda *args: None)
        leaves = [x.clone().requires_grad_(), *ssm.parameters()]
        y = ssm(leaves[0], None, reduction)
        results.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    for found, expected in zip(*results, strict=True):
        assert naive.relative_error(found, expected) < 1e-5


@pytest.mark.parametrize('place', [0, 1])
def test_a_hook_sees_the_convolution_of_each_corner(place):
    mixer, x = make_mixer(), make_map((3, 4))
    expected = mixer(x)
    (ssm,), shapes = mixer.ssm.values(), []
    ssm.convs[place].register_forward_hook(lambda conv, args, y: shapes.append(y.shape))
    assert naive.relative_error(mixer(x), expected) < 1e-12
    rows, columns = torch.Size((6, 12, 4)), torch.Size((8, 12, 3))
    ways = [rows, rows, columns, columns]
    assert shapes == (ways if place == 0 else ways[::-1])


def test_shares_add_up_to_one_and_start_at_a_half():
    (ssm,) = SS2D(6, recurrence='coupled').ssm.values()
    assert torch.equal(ssm.shares(), torch.full((2, 2, 12), 0.5))
    ssm.mix.data = 10 * torch.randn(24)
    shares = ssm.shares()
    assert shares.min() >= 0 and torch.allclose(shares.sum(1), torch.ones(2, 12))
    own = torch.sigmoid(ssm.mix).view(2, 12)
    assert torch.equal(shares[0, 0], own[0]) and torch.equal(shares[1, 1], own[1])


@pytest.mark.parametrize('configured', [False, True])
def test_initialisation(configured):
    init = [dict(type='TruncNormal', layer='Linear', std=0.5, bias=0.0)]
    model = V2M(TINY, recurrence='coupled', init_cfg=init if configured else None, **PLAIN)
    model.init_weights()
    found = [m for m in model.modules() if isinstance(m, CoupledSSM)]
    assert len(found) == 4
    for ssm in found:
        for linear in ssm.dt_projs:
            steps = F.softplus(linear.bias)
            assert 1e-3 * 0.99 <= steps.min() < steps.max() <= 1e-1 * 1.01
            assert linear.weight.abs().max() <= linear.in_features**-0.5
        assert torch.allclose(ssm.A_log.exp(), torch.tensor([1.0, 2.0]).expand(2, 2, 32, 2))
        assert torch.equal(ssm.D, torch.ones(32)) and not ssm.mix.any()


@pytest.mark.parametrize('autocast', [False, True])
def test_half_precision(autocast):
    torch.manual_seed(0)
    layer, x = SS2D(16, states=3, recurrence='coupled'), torch.randn(2, 5, 3, 16)
    truth = layer(x)
    if not autocast:
        layer, x = layer.bfloat16(), x.bfloat16()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        y = layer(x)
    assert y.dtype is torch.bfloat16
    assert (y.float() - truth).norm() < 0.03 * truth.norm()


@pytest.mark.parametrize('class_token', ['middle', 'edge', 'mean'])
def test_a_model_trains_on_images_of_any_size(class_token):
    model = V2M(TINY, recurrence='coupled', class_token=class_token, **PLAIN)
    for size in ((32, 32), (24, 40)):
        model.zero_grad()
        (y,) = model(torch.rand(2, 3, *size))
        (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_pyramid_trains():
    model = V2M(PYRAMID, recurrence='coupled')
    (y,) = model(torch.rand(2, 3, 64, 32))
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_simplified_recurrence_is_the_default():
    assert list(V2M(TINY, **PLAIN).state_dict()) == list(
        V2M(TINY, recurrence='simplified', **PLAIN).state_dict()
    )


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (
            dict(recurrence='exact'),
            "recurrence must be one of simplified, coupled, but got 'exact'",
        ),
        (
            dict(recurrence='coupled', geometry='released', class_token='mean'),
            "does not go with geometry='released'",
        ),
        (dict(arch='local-tiny', recurrence='coupled'), 'has no windows'),
        (
            dict(arch=dict(TINY, orders='both'), recurrence='coupled'),
            "orders and projects at 'one'",
        ),
        (
            dict(arch=dict(TINY, projects='both'), recurrence='coupled'),
            "orders and projects at 'one'",
        ),
        (dict(arch=dict(TINY, projects='all')), 'projects must be one of one, both'),
        (
            dict(arch=dict(TINY, projects='both'), geometry='released', class_token='mean'),
            'projects one side in each scan',
        ),
    ],
)
def test_what_it_does_not_go_with(settings, words):
    with pytest.raises(ValueError, match=words):
        V2M(**dict(arch=TINY, **PLAIN) | settings)
    if 'arch' not in settings:
        with pytest.raises(ValueError, match=words):
            SS2D(6, **settings)


def test_weights_of_the_other_recurrence_are_refused():
    weights = V2M(TINY, **PLAIN).state_dict()
    with pytest.raises(RuntimeError, match='Missing key.*convs.0.weight'):
        V2M(TINY, recurrence='coupled', **PLAIN).load_state_dict(weights)


def test_what_a_token_gets_from_each_corner():
    model = V2M(TINY, recurrence='coupled', **PLAIN).eval()
    views = corner_views(model, torch.rand(1, 3, 32, 32))
    assert [view.corner for view in views] == list(ALL)
    for view, (row, column) in zip(views, ((0, 0), (4, 4), (0, 4), (4, 0)), strict=True):
        assert view.weight.shape == (5, 5) and view.weight[row, column] > 0
        assert view.weight[4 - row, 4 - column] == 0


def test_export():
    model = V2M(TINY, recurrence='coupled', scan_backend='reference', **PLAIN).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        shapes = ({0: torch.export.Dim('batch')},)
        program = torch.export.export(model, (x,), dynamic_shapes=shapes)
        for images in (x, x[:1], torch.cat((x, x))):
            assert torch.equal(program.module()(images)[0], model(images)[0])


@pytest.mark.skipif(bool(missing_packages()), reason='needs: pip install mmv2m[onnx]')
@pytest.mark.parametrize(
    ('settings', 'size'),
    [
        (dict(arch=TINY, class_token='edge', img_size=(24, 40), patch_size=8), (24, 40)),
        (dict(arch=TINY, class_token='mean', **PLAIN), (32, 32)),
        (dict(arch=PYRAMID), (64, 32)),
    ],
)
def test_onnx(settings, size, tmp_path):
    """The export compares the file with the model at several batch sizes."""
    torch.manual_seed(0)
    model = V2M(recurrence='coupled', **settings)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    made = export_onnx(model, size, tmp_path / 'model.onnx', {})
    assert made.difference < 1e-5 and made.path.is_file()


def test_parameters_and_flops():
    inner, states, rank, tokens, taps = 32, 3, 1, 20, 4
    mixer = SS2D(16, states=states, recurrence='coupled', corners=('UL', 'LR'))
    forward = partial(mixer, torch.empty(1, 4, 5, 16))
    found = measure_complexity(mixer, (1, 1), lambda image: forward())
    widths = 2 * rank + 4 * states
    linears = 16 * 2 * inner + inner * 16
    of_each = 2 * taps + widths + 2 * rank  # multiply-accumulates of a channel and a corner
    assert found.flops['matmul+conv'] == tokens * (linears + 2 * inner * of_each)
    scanned = found.flops['matmul+conv+scan'] - found.flops['matmul+conv']
    assert scanned == 2 * 30 * tokens * inner * states
    of_channel = 2 * (taps + 1) + widths + 2 * (rank + 1) + 4 * states + 2 + 1
    assert found.params == linears + inner * of_channel


# B and C of the token in both scans of the simplified recurrence.


def both_sides(half, x, z, way):
    """A scan of which B and C depend on the token."""
    p = dict(half.named_parameters())
    x = naive.conv(x, p['conv.weight'][:, 0], p['conv.bias'], way)
    rank = p['dt_proj.weight'].shape[1]
    dt, B, C = (x @ p['x_proj.weight'].T).split([rank, 3, 3], -1)
    steps, A = dt @ p['dt_proj.weight'].T, -torch.exp(p['A_log'])
    return naive.scan(x, steps, A, B, C, p['D'], z, p['dt_proj.bias'], True, way)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('gated', [True, False])
def test_both_sides_in_both_scans(grid, gated):
    mixer, x = make_mixer(recurrence='simplified', projects='both', gated=gated), make_map(grid)
    (ssm,) = mixer.ssm.values()
    inner = x @ mixer.in_proj.weight.T
    inner, z = inner.chunk(2, -1) if gated else (inner, None)
    total = 0
    for corner, k in naive.QUARTER_TURNS.items():
        turned, gate = (None if m is None else torch.rot90(m, k, (1, 2)) for m in (inner, z))
        between = both_sides(ssm.rows, turned, gate, 'right')
        y = both_sides(ssm.columns, between, None, 'down')
        assert corner in CORNERS
        total = total + torch.rot90(y, -k, (1, 2))
    total = total * naive.silu(z) if gated else naive.layer_norm(mixer.out_norm, total)
    truth = total @ mixer.out_proj.weight.T
    assert naive.relative_error(mixer(x), truth) < 1e-10


def test_both_sides_inside_windows():
    """A window as large as the map is the map."""
    whole, x = make_mixer(recurrence='simplified', projects='both', scans=('h',)), make_map((3, 3))
    inside = make_mixer(recurrence='simplified', projects='both', scans=('w3',))
    weights = {k.replace('ssm.h.', 'ssm.w3.'): v for k, v in whole.state_dict().items()}
    inside.load_state_dict(weights)
    assert naive.relative_error(inside(x), whole(x)) < 1e-12
