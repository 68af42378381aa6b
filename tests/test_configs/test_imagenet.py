from pathlib import Path

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mmv2m.engine.config import load_config
from mmv2m.engine.preflight.model import check_model

CONFIGS = sorted((Path(__file__).resolve().parents[2] / 'configs').glob('v2m-*in1k.py'))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_model_and_decay(path):
    cfg = load_config(str(path))
    check_model(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert model.head.fc.in_features == model.backbone.out_channels[-1]
    decayed = {id(g['params'][0]) for g in wrapper.optimizer.param_groups if g['weight_decay']}
    for name, parameter in model.named_parameters():
        keeps = parameter.dim() == 1 or any(
            k in name for k in ('A_log', 'pos_embed', 'class_token')
        )
        assert (id(parameter) in decayed) != keeps, name
