"""VMamba, PlainMamba and EfficientVMamba with converted official weights, against plain loops."""

import naive
import naive_maps
import official_weights
import pytest
import torch

from mmv2m.models import EfficientVMamba, PlainMamba, VMamba
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
    weights = official_weights.vmamba_weights(8, (1, 1, 2, 1), expand, states)
    image = torch.randn(3, *size, dtype=torch.float64)
    model = VMamba(
        dict(embed_dims=8, depths=(1, 1, 2, 1), expand=expand, state_dims=states, ffn_ratio=2),
        out_type='featmap',
    )
    features = naive_maps.vmamba(weights, image)
    check(model, convert_vmamba_weights(weights), features, image)


@pytest.mark.parametrize('size', [(32, 32), (36, 28), (44, 60)])
def test_efficient_vmamba(size):
    weights = official_weights.efficient_vmamba_weights(8, (1, 2, 2, 1), states=3)
    image = torch.randn(3, *size, dtype=torch.float64)
    model = EfficientVMamba(
        dict(embed_dims=8, depths=(1, 2, 2, 1), state_dims=3), out_type='featmap'
    )
    features = naive_maps.efficient_vmamba(weights, image)
    check(model, convert_efficient_vmamba_weights(weights), features, image)


@pytest.mark.parametrize('grid', [(2, 2), (3, 3), (2, 3), (3, 1), (1, 4)])
@pytest.mark.parametrize('local', [True, False])
def test_plain_mamba(grid, local):
    weights = official_weights.plain_mamba_weights(8, 4, grid[0], 3, 2, conv_behind_first=local)
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
