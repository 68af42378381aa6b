from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmv2m.engine.config import load_config
from mmv2m.models import SS2D, V2M
from mmv2m.ops import can_run, coupled_ssm, directional_conv
from mmv2m.utils.complexity import COUNTING_RULES, measure_complexity, measure_config
from mmv2m.utils.meta_model import build_on_meta, forward_without_annotations

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def measure(ffn_ratio=0, **settings):
    arch = dict(embed_dims=32, depths=(1, 0, 0, 0), state_dims=4, ffn_ratio=ffn_ratio)
    return measure_complexity(
        V2M(arch, img_size=16, patch_size=4, out_indices=0, class_token='mean', **settings),
        (16, 16),
    )


def test_counted_by_hand():
    tokens, width, inner, states, rank, taps, patch = 16, 32, 64, 4, 2, 4, 4 * 4 * 3
    half = inner * (taps + rank + states + rank)
    products = tokens * (patch * width + width * 2 * inner + 4 * 2 * half + inner * width)
    cost = measure(scan_backend='reference')
    assert cost.flops['matmul+conv'] == products
    assert cost.flops['matmul+conv+scan'] == products + 9 * tokens * inner * states * 4 * 2


@pytest.mark.parametrize('ffn_ratio', [0, 3])
def test_fused_operators_count_the_same(ffn_ratio):
    pytest.importorskip('triton')
    counts = [measure(ffn_ratio, scan_backend=name) for name in ('triton', 'reference')]
    assert counts[0] == counts[1]


@pytest.mark.parametrize('separate', [False, True])
@pytest.mark.parametrize('backend', ['reference', 'triton'])
def test_convolutions_in_several_directions(separate, backend):
    pytest.importorskip('triton')
    x, weight = torch.zeros(2, 3, 4, 8), torch.zeros(8, 5)
    x = torch.stack((x, x, x)) if separate else x
    directions = ('left', 'right', 'down')
    cost = measure_complexity(
        nn.Linear(1, 1),
        (1, 1),
        lambda image: directional_conv(x, weight, None, directions, backend),
    )
    assert cost.flops == dict.fromkeys(COUNTING_RULES, 3 * 2 * 3 * 4 * 8 * 5)


@pytest.mark.parametrize('corners', [('UL',), ('LR', 'UR', 'UL')])
@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_the_exact_recurrence_with_its_projections(corners, reduction):
    """One operator counts what its parts count, and those what a layer's modules count."""
    if not can_run('cpu', torch.zeros(1)):
        pytest.skip('there is no C++ compiler')
    mixer = SS2D(8, states=5, conv_size=3, dt_rank=2, recurrence='coupled', corners=corners)
    (ssm,) = mixer.ssm.values()
    ssm.x_proj.register_forward_hook(lambda *args: None)
    x = torch.zeros(2, 3, 4, 16)
    convs, dt_projs = ([(m.weight, m.bias) for m in ms] for ms in (ssm.convs, ssm.dt_projs))
    layers = (convs, ssm.x_proj.weight, dt_projs)

    def run(backend, image):
        rest = (ssm.rates(), ssm.shares(), ssm.D, corners, reduction, backend)
        return coupled_ssm(x, *layers, *rest)

    forwards = [partial(run, 'cpu'), partial(run, 'reference')]
    forwards.append(lambda image: ssm(x, None, reduction))
    found, *others = (measure_complexity(ssm, (1, 1), forward) for forward in forwards)
    assert others == [found, found]
    maps, of_channel = len(corners) * 2 * 3 * 4 * 16, 3 + 3 + (2 * 2 + 4 * 5) + 2 + 2
    assert found.flops['matmul+conv'] == maps * of_channel
    assert found.flops['matmul+conv+scan'] == maps * (of_channel + 30 * 5)


@pytest.mark.parametrize(
    ('name', 'size'),
    [('v2m-mini_digits', 8), ('baselines/deit-t_4xb256_in1k', 224), ('v2m-t_1xb128_cifar10', 32)],
)
def test_counts_on_shapes_are_those_of_a_real_pass(name, size):
    cfg = load_config(str(CONFIGS / f'{name}.py'))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    # PyTorch's counter does not know the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH):
        real = measure_complexity(model, (size, size), partial(model, mode='tensor'))
    assert measure_config(cfg, (size, size)) == real


def test_detectors_count_their_boxes_and_masks():
    pytest.importorskip('mmcv._ext')  # mmcv-lite has none
    cfg = load_config(str(CONFIGS / 'baselines' / 'mask-rcnn_swin-t_1x_coco.py'))
    model = build_on_meta(cfg)
    flops = [
        measure_complexity(
            model,
            (64, 96),
            partial(forward_without_annotations, model, proposals=boxes, masks=masks),
        ).flops['matmul+conv']
        for boxes, masks in ((1000, 100), (1001, 100), (1000, 101))
    ]
    box = 256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * (81 + 4 * 80)
    mask = 4 * 14 * 14 * 256 * 256 * 9 + 28 * 28 * 256 * (256 + 80)
    assert (flops[1] - flops[0], flops[2] - flops[0]) == (box, mask)
    assert measure_config(cfg, (64, 96)).flops['matmul+conv'] == flops[0]


def test_building_on_meta_leaves_pytorch_as_it_was():
    before = nn.Module.register_parameter
    model = build_on_meta(load_config(str(CONFIGS / 'v2m-mini_digits.py')), img_size=16)
    assert all(p.is_meta for p in model.parameters())
    assert model.backbone.pos_embed.weight.shape[1:3] == (8, 8)
    assert nn.Module.register_parameter is before
    assert not nn.Linear(1, 1).weight.is_meta
    assert torch.empty(1).device.type == 'cpu'
