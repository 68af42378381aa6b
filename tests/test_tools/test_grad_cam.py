"""The picture of what a classifier looks at, from a command."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from tiny_digits import TINY_DIGITS

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip('pytorch_grad_cam')


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location(
        'grad_cam', ROOT / 'tools/visualization/grad_cam.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A config of a tiny model, made weights for it, and an image, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path('config.py').write_text(TINY_DIGITS)
    cfg = Config.fromfile('config.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), 'weights.pth')
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save('digit.png')
    return pixels


@pytest.mark.parametrize('options', [[], ['--layer', 'stages.0.0.norm', '--category', '3']])
def test_picture(tool, place, options, capsys):
    tool.main(['config.py', 'weights.pth', 'digit.png', '--out', 'cam.png', *options])
    shown = np.array(Image.open('cam.png'))
    side = 8 * (tool.SIDE // 8)
    assert shown.shape == (side, 2 * side, 3)
    assert np.array_equal(shown[::56, :side:56], place)
    assert shown[:, side:].std() > 0 and 'cam.png' in capsys.readouterr().out


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['config.py', 'weights.pth', 'none.png'], 'none.png does not exist'),
        (['config.py', 'weights.pth', 'digit.png', '--layer', 'stages.7'], "no module 'stages.7'"),
    ],
)
def test_mistakes_are_one_line(tool, place, arguments, words, capsys):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1
