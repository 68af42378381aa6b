"""What the command line does to a config."""

import pytest
from mmengine.config import Config

from mmv2m.engine.config import switch_amp


@pytest.mark.parametrize(
    'dtype, scale',
    [(None, 'dynamic'), ('float16', 'dynamic'), ('bfloat16', dict(enabled=False))],
)
def test_only_float16_needs_a_loss_scale(dtype, scale):
    cfg = Config(dict(optim_wrapper=dict(dtype=dtype) if dtype else {}))
    switch_amp(cfg, True)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == scale
    switch_amp(cfg, False)
    assert cfg.optim_wrapper == dict(type='OptimWrapper')


def test_a_configured_loss_scale_stays():
    cfg = Config(dict(optim_wrapper=dict(dtype='bfloat16', loss_scale=512.0)))
    switch_amp(cfg, True)
    assert cfg.optim_wrapper.loss_scale == 512.0
