"""The plain forward of each layer, which calls all modules, and the fused one agree."""

import pytest
import torch
from tiny_backbones import module_by_module
from torch import nn

from mmv2m.models.layers import (
    FFN,
    SS2D,
    AtrousScanMixer,
    ConvStem,
    CornerSSM,
    CrossScanMixer,
    DirectionalSSM,
    Downsample,
    DualMixer,
    MixerBlock,
    PatchMap,
    ScanAttention,
    ScanMixer,
    SnakeScanMixer,
    Stage,
    WindowSSM,
    plan_groups,
    plan_local_groups,
)

D = 6
NORM = dict(type='SameDtypeLN')


def corners(**options):
    (group,) = plan_groups(('UL', 'LR', 'UR', 'LL'), 'paper', 'all', **options).values()
    return group


def stage(norm_cfg, **settings):
    blocks = (MixerBlock(D, nn.Linear(D, D), norm_cfg=norm_cfg, **settings) for _ in range(3))
    return Stage(*blocks)


def scans_of(projects, directions, reduction):
    return DirectionalSSM(D, 3, 2, projects=projects), (None, directions, reduction)


LAYERS = {
    'ss2d': lambda: SS2D(D, states=3),
    'ss2d without gates': lambda: SS2D(D, states=1, gated=False, share='opposite'),
    'ss2d, mean': lambda: SS2D(D, states=3, merge='mean', orders='both'),
    'ss2d, mean without gates': lambda: SS2D(D, states=1, gated=False, merge='mean'),
    'ss2d, own parameters': lambda: SS2D(D, states=3, share='none', corners=('UL', 'LL')),
    'ss2d, windows': lambda: SS2D(D, states=3, scans=('h', 'w2', 'w2_flip', 'v_flip')),
    'ss2d, windows, token': lambda: SS2D(D, states=3, scans=('h', 'w2'), class_token='middle'),
    'ss2d, coupled': lambda: SS2D(D, states=3, recurrence='coupled'),
    'ss2d, coupled without gates': lambda: SS2D(D, gated=False, recurrence='coupled'),
    'ss2d, both sides': lambda: SS2D(D, states=3, projects='both'),
    'ss2d, released': lambda: SS2D(D, states=3, geometry='released'),
    'corners': lambda: (CornerSSM(D, 3, 2, 4, corners()), (None,)),
    'corners apart': lambda: (CornerSSM(D, 3, 2, 4, corners()), (None, 'none')),
    'windows': lambda: (WindowSSM(D, 3, 2, 4, plan_local_groups(('w2', 'w2_flip'))['w2']), (None,)),
    'rows': lambda: scans_of('input', ('right', 'left'), 'none'),
    'columns': lambda: scans_of('output', ('down', 'up', 'left'), 'sum'),
    'both': lambda: scans_of('both', ('left',), 'sum'),
    'scan mixer': lambda: ScanMixer(D, states=3),
    'scan mixer, attention': lambda: ScanMixer(D, ('h', 'v_flip', 'w2'), states=3, attention=True),
    'atrous scans': lambda: AtrousScanMixer(D, states=3),
    'dual mixer': lambda: DualMixer(8, dict(states=3)).eval(),
    'cross scans': lambda: CrossScanMixer(D, states=2),
    'snake': lambda: SnakeScanMixer(D, (4, 4), states=3, conv_size=3),
    'ffn': lambda: FFN(D, 10, act_cfg=dict(type='GELU'), add_identity=False),
    'attention': lambda: ScanAttention(D),
    'downsample': lambda: Downsample(D, 4, NORM),
    'downsample, LN': lambda: Downsample(D, 4, dict(type='LN')),
    'stage of RMSNorm': lambda: stage(dict(type='RMSNorm')),
    'stage of LN': lambda: stage(dict(type='LN'), ffn_ratio=2),
    'stage of SameDtypeLN': lambda: stage(NORM, ffn_ratio=2),
}
IMAGES = {
    'stem': lambda: ConvStem(3, 8, NORM),
    'patches': lambda: PatchMap(3, D, 4, 16),
    'overlapping patches': lambda: PatchMap(3, D, 4, 16, stride=2),
}


def make(build):
    torch.manual_seed(0)
    built = build()
    layer, args = built if isinstance(built, tuple) else (built, ())
    layer.double()
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return layer, args


def results(layer, x, args):
    """Output, and gradients of the input and of each parameter."""
    y = layer(x, *args)
    grad_y = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    grads = torch.autograd.grad(y, (x, *parameters), grad_y)
    return dict(zip(('output', 'input', *names), (y, *grads), strict=True))


@pytest.mark.parametrize('name', [*LAYERS, *IMAGES])
def test_plain_and_fused_forward_agree(name):
    layer, args = make({**LAYERS, **IMAGES}[name])
    width = 8 if name == 'dual mixer' else D
    shape = (2, 3, 16, 12) if name in IMAGES else (2, 4, 4, width)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    fused = results(layer, x, args)
    with module_by_module():
        plain = results(layer, x, args)
    for key, truth in plain.items():
        error = (fused[key] - truth).norm() / (truth.norm() + 1e-3)
        assert error < 1e-9, key


@pytest.mark.parametrize('gate', [False, True])
def test_gates_between_the_halves(gate):
    layer, _ = make(lambda: CornerSSM(D, 3, 2, 4, corners()))
    x, z = torch.randn(2, 1, 3, 5, D, dtype=torch.float64)
    fused = layer(x, z if gate else None)
    with module_by_module():
        assert torch.allclose(layer(x, z if gate else None), fused, atol=1e-12)


@pytest.mark.parametrize('settings', [dict(states=3), dict(states=1, gated=False)])
@pytest.mark.parametrize('autocast', [False, True])
def test_half_precision(settings, autocast):
    """The plain forward runs in every dtype that the fused one does, and gives the same one."""
    torch.manual_seed(0)
    layer, x = SS2D(16, **settings), torch.randn(2, 5, 3, 16)
    truth = layer(x)
    if not autocast:
        layer, x = layer.bfloat16(), x.bfloat16()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        fused = layer(x)
        with module_by_module():
            plain = layer(x)
    assert fused.dtype is plain.dtype is torch.bfloat16
    for y in (fused, plain):
        assert (y.float() - truth).norm() < 0.03 * truth.norm()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda m: setattr(m, 'in_proj', nn.Linear(D, 24)), "has a parameter 'bias'"),
        (lambda m: setattr(m.ssm['all'].rows.conv, 'dilation', (2,)), r'has dilation=\(2,\)'),
        (lambda m: setattr(m.ssm['all'].rows, 'dt_proj', nn.Linear(1, 12, bias=False)), 'no param'),
    ],
)
def test_layers_that_compute_something_else(change, words, caplog):
    """Of the class that an operator knows, but not as it knows it."""
    from mmv2m.models.layers import door

    door._TOLD.clear()
    caplog.set_level('WARNING', 'mmv2m')
    layer = SS2D(D, states=3)
    change(layer)
    x = torch.randn(1, 4, 4, D)
    try:
        y = layer(x)
    except RuntimeError:
        y = None  # a dilated convolution has another length
    with module_by_module():
        assert y is None or torch.allclose(layer(x), y, atol=1e-5)
    assert words.replace('\\', '') in caplog.text
