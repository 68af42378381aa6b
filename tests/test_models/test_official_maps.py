"""VMamba, PlainMamba and EfficientVMamba with converted official weights, against plain loops."""

import made_weights
import naive
import naive_maps
import pytest
import torch
from torch import nn

from mmv2m.models import EfficientVMamba, PlainMamba, VMamba
from mmv2m.utils.complexity import measure_complexity
from mmv2m.utils.efficient_vmamba_weights import convert_efficient_vmamba_weights
from mmv2m.utils.plain_mamba_weights import convert_plain_mamba_weights
from mmv2m.utils.vmamba_weights import convert_vmamba_weights


def check(model, converted, features, image):
    """The model, with all the converted weights and no others, makes the same features."""
    own = {k.removeprefix('backbone.'): v for k, v in converted.items() if 'head' not in k}
    model.double().eval().load_state_dict(own)
    with torch.no_grad():
        (y,) = model(image[None])
    assert y.shape == (1, *features.shape)
    assert naive.relative_error(y[0], features) < 1e-10


@pytest.mark.parametrize('size', [(32, 32), (36, 27)])
@pytest.mark.parametrize(('expand', 'states'), [(1, 1), (2, 3)])
def test_vmamba(size, expand, states):
    weights = made_weights.vmamba_weights(8, (1, 1, 2, 1), expand, states)
    image = torch.randn(3, *size, dtype=torch.float64)
    model = VMamba(
        dict(embed_dims=8, depths=(1, 1, 2, 1), expand=expand, state_dims=states, ffn_ratio=2),
        out_type='featmap',
    )
    features = naive_maps.vmamba(weights, image)
    check(model, convert_vmamba_weights(weights), features, image)


@pytest.mark.parametrize('size', [(32, 32), (36, 28), (44, 60)])
def test_efficient_vmamba(size):
    weights = made_weights.efficient_vmamba_weights(8, (1, 2, 2, 1), states=3)
    image = torch.randn(3, *size, dtype=torch.float64)
    model = EfficientVMamba(
        dict(embed_dims=8, depths=(1, 2, 2, 1), state_dims=3), out_type='featmap'
    )
    features = naive_maps.efficient_vmamba(weights, image)
    check(model, convert_efficient_vmamba_weights(weights), features, image)


@pytest.mark.parametrize('grid', [(2, 2), (3, 3), (2, 3), (3, 1), (1, 4)])
@pytest.mark.parametrize('local', [True, False])
def test_plain_mamba(grid, local):
    weights = made_weights.plain_mamba_weights(8, 4, grid[0], 3, 2, conv_behind_first=local)
    if grid[0] != grid[1]:
        weights['backbone.pos_embed'].zero_()
    image = torch.randn(3, 16 * grid[0], 16 * grid[1], dtype=torch.float64)
    arch = dict(
        embed_dims=8,
        depths=(1, 1, 1, 1),
        state_dims=3,
        stem_convs=2,
        conv_behind_first=local,
    )
    model = PlainMamba(arch, img_size=16 * grid[0], out_type='featmap')
    features = naive_maps.plain_mamba(weights, image)
    check(model, convert_plain_mamba_weights(weights), features, image)


def count_norms(model):
    """A list to which each norm that runs as a module of its own adds its operations."""
    operations = []
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
            each = 2 if isinstance(module, nn.BatchNorm2d) else 5
            module.register_forward_hook(
                lambda module, args, out, each=each: operations.append(each * out.numel())
            )
    return operations


@pytest.mark.parametrize(
    ('cls', 'arch', 'params', 'products', 'with_scans'),
    [
        (VMamba, 'tiny', 30_249_064, 4.812621, 4.905610),
        (VMamba, 'small', 50_147_752, 8.498977, 8.715775),
        (PlainMamba, 'L1', 7_551_656, 1.965222, 3.0209),
        (PlainMamba, 'L2', 26_145_832, 5.979356, 8.0889),
        (PlainMamba, 'L3', 50_956_456, 10.766110, 14.4540),
        (EfficientVMamba, 'tiny', 6_493_660, 0.656957, 0.8064),
        (EfficientVMamba, 'small', 11_273_688, 1.143277, 1.3426),
        (EfficientVMamba, 'base', 33_717_136, 3.689440, 3.9967),
    ],
)
def test_params_and_flops_of_the_official_code(cls, arch, params, products, with_scans):
    """The official code's FLOPs as fvcore counts them, see docs/baselines.

    Its products and convolutions, and all it counts: norms as well, five operations for each number
    (two for BatchNorm's), and a tenth one for each token and channel of a scan.
    """
    with torch.device('meta'):  # nothing is computed
        backbone = cls(arch, scan_backend='reference')
        norms = count_norms(backbone)
        head = nn.Linear(backbone.out_channels[-1], 1000)
        cost = measure_complexity(backbone, (224, 224), lambda x: head(backbone(x)[0]))
    assert cost.params + sum(p.numel() for p in head.parameters()) == params
    assert cost.flops['matmul+conv'] / 1e9 == pytest.approx(products, rel=1e-5)
    counted = cost.flops['matmul+conv+scan'] + sum(norms)
    assert counted / 1e9 == pytest.approx(with_scans, rel=0.005)
