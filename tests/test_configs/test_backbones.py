"""Every backbone of the tables trains on two image sizes, and its weights go through a file.

That its model has the printed size is tested beside the other configs, in test_tables.py.
"""

import io
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope

import mmv2m.models
from mmv2m.models.backbones.staged import StagedBackbone
from mmv2m.reproduce.report import row_config
from mmv2m.reproduce.tables import load_tables
from mmv2m.utils.meta_model import build_on_meta

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Blocks a stage, by the names that the libraries give it: Swin shifts every other one's windows.
DEPTHS = dict(depths=[2] * 4, num_layers=2)


def backbone_config(name):
    """The backbone of a config alone, without its published weights."""
    cfg = row_config(CONFIGS / f'{name}.py')
    backbone = cfg.model.backbone
    backbone.pop('init_cfg', None)
    if cfg.default_scope == 'mmpretrain' and backbone.type == 'SwinTransformer':
        backbone.pad_small_map = True  # as the other libraries' do: else 224 x 224 is the least
    return Config(dict(model=backbone, default_scope=cfg.default_scope))


def distinct_backbones():
    """The first config of each; of others' backbones, which differ by sizes, of each class."""
    names = {}
    for config in load_tables(CONFIGS / 'tables.yml').by_config():
        name = config.removesuffix('.py')
        cfg = backbone_config(name)
        kind = cfg.model.type
        ours = hasattr(mmv2m.models, kind.removeprefix('mmv2m.'))
        names.setdefault(cfg.pretty_text if ours else (kind, cfg.default_scope), name)
    return list(names.values())


def cut(cfg, full):
    """The config with a block or two a stage, at full width, where ``full`` lets that be chosen."""
    cfg = deepcopy(cfg)
    if isinstance(full, StagedBackbone):
        arch = full.arch
        settings = dict(depths=(1,) * 4)
        if getattr(arch, 'scans', None):
            settings['scans'] = tuple(arch.scans[sum(arch.depths[:stage])] for stage in range(4))
        cfg.model.arch = asdict(replace(arch, **settings))
    elif 'depths' in cfg.model:
        cfg.model.depths = DEPTHS['depths']
    elif (arch := getattr(full, 'arch_settings', {})).keys() & DEPTHS:
        cfg.model.arch = {key: DEPTHS.get(key, value) for key, value in arch.items()}
    return cfg


def build(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        # One process has nobody to share statistics with.
        return revert_sync_batchnorm(MODELS.build(deepcopy(cfg.model)))


def shapes(model):
    return {name: value.shape for name, value in model.state_dict().items()}


@pytest.mark.parametrize('name', distinct_backbones())
def test_backbone_trains_and_its_weights_round_trip(name):
    full = build_on_meta(row_config(CONFIGS / f'{name}.py')).backbone
    cfg = cut(backbone_config(name), full)
    torch.manual_seed(0)
    model = build(cfg)
    assert shapes(model).items() <= shapes(full).items()
    model.init_weights()
    # The released code's branches are defined on square maps only.
    released = cfg.model.get('geometry') == 'released'
    images = [torch.rand(2, 3, *size) for size in ((32, 32), (64, 64 if released else 32))]
    for x in images:
        model.train()
        model.zero_grad()
        outputs = model(x)
        sum((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum() for y in outputs).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        assert gradients
        assert not [n for n, g in gradients.items() if g is None or not g.isfinite().all()]
    weights = io.BytesIO()
    torch.save(model.state_dict(), weights)
    weights.seek(0)
    loaded = build(cfg)
    loaded.load_state_dict(torch.load(weights))
    model.eval(), loaded.eval()
    with torch.no_grad():
        for x in images:
            for ours, theirs in zip(model(x), loaded(x), strict=True):
                assert torch.isfinite(ours).all()
                assert torch.equal(ours, theirs)
