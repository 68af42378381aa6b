"""Every config in configs/: it loads, builds, has the printed size, and its parts fit together.

Models are built without memory or initialisation, on PyTorch's meta device, where a forward pass
computes shapes. That leaves every weight that an ``init_cfg`` would download where it is.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

from mmv2m.engine.config import load_config
from mmv2m.engine.preflight.model import check_model
from mmv2m.engine.preflight.registered import require_class

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(
    str(path.relative_to(CONFIGS).with_suffix(''))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
)
LIGHT = ('v2m-mini_digits', 'baselines/resnet18_8xb32_in1k', 'baselines/deit-t_4xb256_in1k')
ROW = re.compile(r'# Table (\d), (.+?)(?: \(.+?\))?: (\d+) M parameters\b')
# Printed figures that count position embeddings for a larger image; the config says why.
COUNTED_AT = {'upernet_v2m-s_8xb2-160k_ade20k-512x512': 1024}
# One that leaves the classifier's head out; the config says so too.
WITHOUT_HEAD = ('baselines/plain-mamba-l2_8xb256_in1k',)
# Parameters of more than one axis that do not decay.
SPARED = ('A_log', 'pos_embed', 'class_token', 'direction_embed')

ROWS = {
    1: 'ResNet-18, ResNet-50, ResNet-101, ResNet-152, RegNetY-4G, RegNetY-8G, RegNetY-16G, DeiT-T, '
    'DeiT-S, DeiT-B, ViT-B/16, Swin-T, Swin-S, Swin-B, V2M-T, V2M-S, V2M-T + local window, '
    'V2M-S + local window, V2M-S*, V2M-B*, Vim-T, Vim-S, LocalVim-T, LocalVim-S, VMamba-T, '
    'VMamba-S, PlainMamba-L1, PlainMamba-L2, PlainMamba-L3, EffVMamba-T, EffVMamba-S, EffVMamba-B',
    2: 'ResNet-50@1x, ResNet-101@1x, ConvNeXt-T@1x, ConvNeXt-S@1x, ConvNeXt-T@3x, ConvNeXt-S@3x, '
    'Swin-T@1x, Swin-S@1x, Swin-T@3x, Swin-S@3x, V2M-S*@1x, V2M-B*@1x, V2M-S*@3x, V2M-B*@3x',
    3: 'Swin-T, Swin-S, V2M-T, V2M-S, V2M-T + local window, V2M-S + local window, V2M-S*, V2M-B*',
}


@contextmanager
def on_meta() -> Iterator[None]:
    """Send every parameter to the meta device as it is registered, before it is initialised."""
    register = nn.Module.register_parameter

    def register_on_meta(self, name, parameter):
        register(self, name, parameter)
        if parameter is not None:
            meta = nn.Parameter(parameter.to('meta'), parameter.requires_grad)
            self._parameters[name] = meta

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Module, 'register_parameter', register_on_meta)
        yield


@cache
def config(name):
    return load_config(str(CONFIGS / f'{name}.py'))


@contextmanager
def scope(name):
    with DefaultScope.overwrite_default_scope(config(name).default_scope):
        yield


def build(name, **backbone):
    settings = config(name).model.copy()
    settings.backbone.update(backbone)
    with scope(name), on_meta():
        return MODELS.build(settings).to('meta').eval()


@cache
def model(name):
    return build(name)


def row(name):
    """Table, method and printed millions of parameters, or None; from the config's first line."""
    first = (CONFIGS / f'{name}.py').read_text().splitlines()[0]
    found = ROW.match(first)
    assert found or not first.startswith('# Table'), f'{name} names its row in another way'
    return found and (int(found[1]), found[2].replace(', ', '@'), int(found[3]))


def forward(name, net, images):
    """What the training path computes, up to where it needs annotations."""
    if config(name).default_scope != 'mmdet':
        return net(images, mode='tensor')
    maps = net.extract_feat(images)
    rois = images.new_empty(4, maps[0].shape[1], 14, 14)
    heads = net.roi_head.bbox_head, net.roi_head.mask_head
    return net.rpn_head(maps), heads[0](rois[..., :7, :7]), heads[1](rois)


@pytest.mark.parametrize('name', NAMES)
def test_model_has_the_printed_size(name):
    check_model(config(name))
    printed = row(name)
    if printed is None:
        return
    net = build(name, img_size=COUNTED_AT[name]) if name in COUNTED_AT else model(name)
    counted = net.backbone if name in WITHOUT_HEAD else net
    millions = sum(p.numel() for p in counted.parameters()) / 1e6
    # The paper rounds some figures up and some down.
    assert abs(millions - printed[2]) < 1


@pytest.mark.parametrize('name', NAMES)
def test_backbone_neck_and_heads_fit(name):
    cfg = config(name)
    size = cfg.model.backbone.get('img_size', 224)
    if cfg.default_scope != 'mmpretrain':
        size = (320, 224)
    rows, columns = size if isinstance(size, tuple) else (size, size)
    with torch.no_grad():
        out = forward(name, model(name), torch.empty(2, 3, rows, columns, device='meta'))
    if cfg.default_scope == 'mmdet':
        (objectness, _), (classes, boxes), masks = out
        head = cfg.model.roi_head.bbox_head
        assert [score.shape[-2:] for score in objectness] == [
            (-(-rows // stride), -(-columns // stride)) for stride in (4, 8, 16, 32, 64)
        ]
        assert classes.shape == (4, head.num_classes + 1)
        assert boxes.shape == (4, head.num_classes * 4)
        assert masks.shape == (4, head.num_classes, 28, 28)
    elif cfg.default_scope == 'mmseg':
        stride = 16 if 'local' in name else 4
        channels = cfg.model.decode_head.num_classes
        assert out.shape == (2, channels, rows // stride, columns // stride)
    else:
        assert out.shape == (2, cfg.model.head.num_classes)


@pytest.mark.parametrize('name', NAMES)
def test_data_and_optimiser_can_be_built(name):
    cfg = config(name)
    with scope(name):
        for split in ('train', 'val', 'test'):
            dataset = cfg[f'{split}_dataloader'].dataset
            require_class(DATASETS, cfg.default_scope, dataset.type, split)
            Compose(dataset.pipeline)
        Compose(cfg.get('tta_pipeline', []))
        wrapper = cfg.optim_wrapper.copy()
        wrapper.type = 'OptimWrapper'  # mixed precision needs a GPU
        optimizer = build_optim_wrapper(model(name), wrapper).optimizer
    decays = {
        id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']
    }
    assert all(id(p) in decays for p in model(name).parameters() if p.requires_grad)
    if not type(model(name).backbone).__module__.startswith('mmv2m'):
        return
    for key, p in model(name).backbone.named_parameters():
        spared = p.dim() <= 1 or any(part in key for part in SPARED)
        assert decays[id(p)] == 0 or not spared, key
    assert any(decays[id(p)] for p in model(name).backbone.parameters())


@pytest.mark.parametrize('name', LIGHT)
def test_light_models_run(name):
    cfg = config(name)
    size = cfg.model.backbone.get('img_size', 64)
    with scope(name), torch.no_grad():
        net = MODELS.build(cfg.model).eval()
        assert torch.isfinite(net(torch.rand(2, 3, size, size), mode='tensor')).all()


def test_every_row_has_a_config():
    found = [row(name)[:2] for name in NAMES if row(name)]
    assert len(found) == len(set(found))
    assert {(table, method) for table in ROWS for method in ROWS[table].split(', ')} <= set(found)
