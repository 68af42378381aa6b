import naive
import pytest
import torch
from torch.nn.utils import prune

from mmv2m.models import SS2D
from mmv2m.models.layers import (
    CORNERS,
    LOCAL_SCANS,
    build_class_token,
    plan_corners,
    plan_local_groups,
)

CORNER_SETS = [tuple(CORNERS)[:n] for n in range(1, 5)]
GRIDS = [(3, 3), (2, 4), (5, 3), (1, 4)]


def make_mixer(**settings):
    torch.manual_seed(0)
    mixer = SS2D(6, **{'states': 3, **settings}).double()
    for parameter in mixer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return mixer


def make_map(grid, batch=2):
    return torch.randn(batch, *grid, 6, dtype=torch.float64)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('corners', CORNER_SETS)
def test_agrees_with_the_paper(grid, corners):
    mixer, x = make_mixer(corners=corners), make_map(grid)
    truth = naive.ss2d(mixer, x, dict(all=(corners, 0)))
    assert naive.relative_error(mixer(x), truth) < 1e-10


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('gated', [True, False])
def test_opposite_corners_share_parameters(grid, gated):
    mixer, x = make_mixer(share='opposite', gated=gated, states=1), make_map(grid)
    truth = naive.ss2d(mixer, x, dict(h=(('UL', 'LR'), 0), v=(('UR', 'LL'), 0)))
    assert naive.relative_error(mixer(x), truth) < 1e-10
    half_turned = torch.rot90(mixer(torch.rot90(x, 2, (1, 2))), 2, (1, 2))
    assert naive.relative_error(half_turned, mixer(x)) < 1e-12


def test_one_pair_of_corners_only():
    mixer, x = make_mixer(share='opposite', corners=('LL', 'UR')), make_map((2, 3))
    assert list(mixer.ssm) == ['v']
    truth = naive.ss2d(mixer, x, dict(v=(('UR', 'LL'), 0)))
    assert naive.relative_error(mixer(x), truth) < 1e-10


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('quarters', [1, 2, 3])
def test_four_corners_commute_with_quarter_turns(grid, quarters):
    mixer, x = make_mixer(), make_map(grid)
    turned = mixer(torch.rot90(x, quarters, (1, 2)))
    assert naive.relative_error(torch.rot90(turned, -quarters, (1, 2)), mixer(x)) < 1e-12


def test_fewer_corners_do_not_commute():
    mixer, x = make_mixer(corners=('UL', 'LR', 'UR')), make_map((3, 3))
    turned = torch.rot90(mixer(torch.rot90(x, 1, (1, 2))), -1, (1, 2))
    assert naive.relative_error(turned, mixer(x)) > 1e-3


def test_one_corner_sees_what_lies_between_it_and_the_token():
    mixer, x = make_mixer(corners=('LR',)), make_map((4, 5), batch=1).requires_grad_()
    mixer(x)[0, 1, 3].sum().backward()
    seen = x.grad[0].abs().sum(-1) > 0
    expected = torch.zeros(4, 5, dtype=torch.bool)
    expected[1:, 3:] = True
    assert torch.equal(seen, expected)


def test_released_geometry_agrees_with_the_released_code():
    mixer, x = make_mixer(geometry='released'), make_map((4, 4))
    assert naive.relative_error(mixer(x), naive.released_ss2d(mixer, x)) < 1e-10


def test_released_geometry_refuses_other_grids():
    with pytest.raises(ValueError, match='square map, but got 3 x 4'):
        make_mixer(geometry='released')(make_map((3, 4)))


@pytest.mark.parametrize('grid', [(4, 6), (5, 3), (3, 7)])
@pytest.mark.parametrize(
    ('scans', 'groups'),
    [
        (('h', 'v_flip', 'w3', 'w3_flip'), dict(h=('UL', 0), v=('LL', 0), w3=('UL LR', 3))),
        (
            ('h_flip', 'w2_flip', 'w3', 'v'),
            dict(h=('LR', 0), w2=('LR', 2), w3=('UL', 3), v=('UR', 0)),
        ),
        (('w2_flip', 'w2'), dict(w2=('LR UL', 2))),
    ],
)
def test_local_scans_agree_with_a_loop_over_windows(grid, scans, groups):
    mixer, x = make_mixer(scans=scans), make_map(grid)
    assert list(mixer.ssm) == list(groups)
    truth = naive.ss2d(mixer, x, {k: (corners.split(), w) for k, (corners, w) in groups.items()})
    assert naive.relative_error(mixer(x), truth) < 1e-10


@pytest.mark.parametrize('class_token', ['middle', 'edge'])
@pytest.mark.parametrize('gated', [True, False])
def test_class_tokens_stay_out_of_the_windows(class_token, gated):
    def part(*scans, **settings):
        mixer = make_mixer(scans=scans, gated=gated, **settings)
        assert not mixer.load_state_dict(weights, strict=False).missing_keys
        mixer.out_norm = torch.nn.Identity()  # what is left adds up
        return mixer

    weights = make_mixer(scans=('h', 'w2'), gated=gated).state_dict()
    token = build_class_token(class_token, 6, (3, 4)).double()
    x = token(make_map((3, 4)))
    both, whole, windows = (
        part(*scans, class_token=class_token)(x) for scans in (('h', 'w2'), ('h',), ('w2',))
    )
    assert naive.relative_error(both, whole + windows) < 1e-12
    assert torch.equal(token.read(windows), torch.zeros(2, 6, dtype=torch.float64))
    without = part('w2')(token.strip(x))
    assert naive.relative_error(token.strip(windows), without) < 1e-12


@pytest.mark.parametrize(
    'settings',
    [
        dict(scans=('h', 'w2_flip')),
        dict(corners=('UL', 'LL'), share='opposite', gated=False, states=1),
        dict(corners=('UL', 'LL'), projects='both', states=2),
    ],
)
def test_fused_operators_serve_every_kind_of_mixer(settings):
    pytest.importorskip('triton')
    results = []
    for backend in ('reference', 'triton'):
        mixer = make_mixer(backend=backend, **settings).float()
        torch.manual_seed(1)
        x = torch.randn(1, 2, 3, 6, requires_grad=True)  # small: Triton is interpreted
        y = mixer(x)
        y.square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in mixer.parameters())])
    errors = [naive.relative_error(b, a) for a, b in zip(*results, strict=True)]
    assert max(errors) < 1e-4


def test_four_global_scans_are_the_four_corners():
    found = {
        name: plan_local_groups((name,))[name[0]].corners[0]
        for name in ('h', 'h_flip', 'v', 'v_flip')
    }
    assert found == dict(zip(found, (CORNERS[c] for c in ('UL', 'LR', 'UR', 'LL')), strict=True))


@pytest.mark.parametrize(
    ('scans', 'words'),
    [
        ((), 'names such as'),
        ('h', 'names such as'),
        (('h', 'd'), "or one with _flip; got 'd'"),
        (('w0',), "got 'w0'"),
        (('w', 'h'), "got 'w'"),
        (('h', 'v', 'h'), "'h' comes twice"),
    ],
)
def test_impossible_scans(scans, words):
    with pytest.raises(ValueError, match=words):
        plan_local_groups(scans)


def test_published_scan_sets():
    for scans in LOCAL_SCANS.values():
        assert len(scans) == 20
        for of_block in scans:
            assert len(set(of_block)) == 4
            groups = plan_local_groups(of_block)
            assert {group.window for group in groups.values()} <= {0, 2, 7}
            assert {'h', 'v'} & groups.keys()  # class tokens are mixed in every block


@pytest.mark.parametrize(
    ('corners', 'geometry', 'words'),
    [
        ((), 'paper', 'corners must be a sequence of UL, LR, UR, LL'),
        ('UL', 'paper', "but got 'UL'"),
        (('UL', 'middle'), 'paper', 'corners must be'),
        (('UL', 'UL'), 'paper', 'differ from each other'),
        (('UL',), 'released', 'four fixed branches'),
        (tuple(CORNERS), 'flat', "geometry must be one of paper, released, but got 'flat'"),
    ],
)
def test_impossible_corners(corners, geometry, words):
    with pytest.raises(ValueError, match=words):
        plan_corners(corners, geometry)


def test_released_geometry_shares_all_parameters():
    with pytest.raises(ValueError, match="share='all'"):
        make_mixer(geometry='released', share='opposite')
    with pytest.raises(ValueError, match="orders='one'"):
        make_mixer(geometry='released', orders='both')
    with pytest.raises(ValueError, match="sum in the released geometry, but got 'mean'"):
        make_mixer(geometry='released', merge='mean')


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(share='some'), "share must be one of all, opposite, none, but got 'some'"),
        (dict(orders='two'), "orders must be one of one, both, but got 'two'"),
        (dict(merge='max'), "merge must be one of sum, mean.* but got 'max'"),
        (dict(states=0), 'states must be a positive integer, but got 0'),
        (dict(expand=1.5), 'expand must be a positive integer, but got 1.5'),
        (dict(conv_size=True), 'conv_size must be a positive integer, but got True'),
        (dict(dt_rank=2.7), 'dt_rank must be a positive integer, but got 2.7'),
        (dict(gated='no'), "gated must be one of True, False, but got 'no'"),
        (dict(backend='gpu'), "backend must be one of auto, cuda.* but got 'gpu'"),
        (dict(class_token='edges', scans=('h', 'w2')), "middle, edge, mean, but got 'edges'"),
        (dict(scans=()), 'names such as'),
        (dict(scans=('h',), corners=('UL',)), 'corners do not go with scans'),
        (dict(scans=('h',), share='none'), "share at 'all'"),
        (dict(scans=('h',), geometry='released'), "geometry at 'paper'"),
    ],
)
def test_impossible_variants(settings, words):
    with pytest.raises(ValueError, match=words):
        make_mixer(**settings)


@pytest.mark.parametrize('grid', GRIDS)
def test_corners_with_parameters_of_their_own(grid):
    mixer, x = make_mixer(share='none', corners=('UL', 'LR', 'UR')), make_map(grid)
    truth = naive.ss2d(mixer, x, dict(ul=(('UL',), 0), lr=(('LR',), 0), ur=(('UR',), 0)))
    assert naive.relative_error(mixer(x), truth) < 1e-10


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('gated', [True, False])
def test_mean_over_corners(grid, gated):
    mixer, x = make_mixer(merge='mean', gated=gated, share='opposite'), make_map(grid)
    twin = make_mixer(gated=gated, share='opposite')
    twin.load_state_dict(mixer.state_dict())
    twin.out_norm, mixer.out_norm = torch.nn.Identity(), torch.nn.Identity()
    assert naive.relative_error(mixer(x), twin(x) / 4) < 1e-12


@pytest.mark.parametrize('grid', GRIDS)
def test_both_orders_from_each_corner(grid):
    """Eq. 8 is Eq. 7 on the transposed map, with other parameters."""
    mixer, x = make_mixer(orders='both'), make_map(grid)
    assert list(mixer.ssm) == ['all', 'all_swapped']
    first, second = (make_mixer(out_proj_scale=1.0) for _ in range(2))
    for part, name in ((first, 'all'), (second, 'all_swapped')):
        weights = {
            key.replace(f'ssm.{name}.', 'ssm.all.'): value
            for key, value in mixer.state_dict().items()
            if not key.startswith('ssm') or key.startswith(f'ssm.{name}.')
        }
        part.load_state_dict(weights)
    groups = dict(all=(tuple(CORNERS), 0))
    truth = naive.ss2d(first, x, groups)
    truth = truth + naive.ss2d(second, x.transpose(1, 2), groups).transpose(1, 2)
    assert naive.relative_error(mixer(x), truth) < 1e-10


def test_corners_share_their_parameters():
    counts = {sum(p.numel() for p in make_mixer(corners=c).parameters()) for c in CORNER_SETS}
    assert len(counts) == 1


@pytest.mark.parametrize('gated', [True, False])
@pytest.mark.parametrize('name', ['in_proj', 'out_proj'])
def test_a_layer_that_replaces_a_projection_is_run(name, gated):
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    mixer, x = make_mixer(gated=gated), make_map((2, 3))
    layer = getattr(mixer, name)
    doubled = Doubled(layer.in_features, layer.out_features, bias=False).double()
    doubled.load_state_dict(layer.state_dict())
    setattr(mixer, name, doubled)
    y = mixer(x)
    setattr(mixer, name, layer)
    layer.weight.data *= 2
    assert naive.relative_error(y, mixer(x)) < 1e-12


@pytest.mark.parametrize('gated', [True, False])
@pytest.mark.parametrize('name', ['in_proj', 'out_proj'])
def test_hooks_on_a_projection_run(name, gated):
    mixer, x = make_mixer(gated=gated), make_map((2, 3))
    truth, seen = mixer(x), []
    handle = getattr(mixer, name).register_forward_hook(lambda *args: seen.append(args))
    assert naive.relative_error(mixer(x), truth) < 1e-12
    assert len(seen) == 1
    handle.remove()
    mixer(x)
    assert len(seen) == 1


@pytest.mark.parametrize('name', ['conv', 'x_proj', 'dt_proj'])
@pytest.mark.parametrize('half', ['rows', 'columns'])
def test_what_pruning_has_put_in_a_weights_place_is_used(half, name):
    mixer, masked, x = make_mixer(), make_mixer(), make_map((2, 3))
    pruned, layer = (
        getattr(getattr(next(iter(m.ssm.values())), half), name) for m in (mixer, masked)
    )
    truth = mixer(x)
    prune.l1_unstructured(pruned, 'weight', amount=0.5)
    layer.weight.data *= pruned.weight_mask
    assert naive.relative_error(mixer(x), masked(x)) < 1e-12
    assert naive.relative_error(mixer(x), truth) > 1e-9


@pytest.mark.parametrize('gated', [True, False])
def test_the_mean_over_corners_is_the_sum_divided(gated):
    mean, total = (make_mixer(gated=gated, merge=merge) for merge in ('mean', 'sum'))
    x = make_map((2, 3))
    layer = total.out_norm if not gated else total.out_proj
    if gated:
        layer.weight.data /= 4
    else:
        layer.eps *= 16
    assert naive.relative_error(mean(x), total(x)) < 1e-12


def test_maps_of_another_layout_are_refused():
    for shape in ((2, 16, 4, 5), (2, 20, 16)):
        with pytest.raises(ValueError, match=r'takes a map as \(B, H, W, 16\), channels last'):
            SS2D(16)(torch.zeros(shape))
