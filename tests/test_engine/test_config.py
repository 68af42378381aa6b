"""What the command line does to a config."""

import pytest
from mmengine.config import Config

from mmv2m.engine.config import resolve_resume, switch_amp


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


def resumed(tmp_path, checkpoint, **settings):
    cfg = Config(dict(work_dir=str(tmp_path), **settings))
    resolve_resume(cfg, checkpoint)
    return cfg.get('resume', False), cfg.get('load_from')


def test_what_is_resumed(tmp_path):
    assert resumed(tmp_path, None) == (False, None)
    assert resumed(tmp_path, 'auto') == (False, None)
    # A job that is always started with --resume begins with the weights that its config names.
    assert resumed(tmp_path, 'auto', load_from='weights.pth') == (False, 'weights.pth')
    assert resumed(tmp_path, None, resume=True, load_from='a.pth') == (True, 'a.pth')
    newest = str(tmp_path / 'iter_2.pth')
    (tmp_path / 'iter_2.pth').touch()
    assert resumed(tmp_path, 'auto', load_from='weights.pth') == (True, newest)
    assert resumed(tmp_path, None, resume=True) == (True, newest)
    assert resumed(tmp_path, 'other.pth', load_from='weights.pth') == (True, 'other.pth')
    assert resumed(tmp_path, None, load_from='weights.pth') == (False, 'weights.pth')
