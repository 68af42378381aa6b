"""The picture of what a classifier looks at, from a command."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from visualized import load_tool, write_tiny_model

pytest.importorskip('pytorch_grad_cam')


FITTING = ['config.py', 'weights.pth', 'digit.png']


@pytest.fixture
def tool():
    return load_tool('grad_cam')


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_tiny_model()


@pytest.mark.parametrize('options', [[], ['--layer', 'stages.0.0.norm', '--category', '3']])
def test_picture(tool, place, options, capsys):
    tool.main(['config.py', 'weights.pth', 'digit.png', '--out', 'to/cam.png', *options])
    shown = np.array(Image.open('to/cam.png'))
    side = 8 * (tool.SIDE // 8)
    assert shown.shape == (side, 2 * side, 3)
    assert np.array_equal(shown[::56, :side:56], place)
    assert shown[:, side:].std() > 0 and 'cam.png' in capsys.readouterr().out


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['config.py', 'weights.pth', 'none.png'], 'none.png does not exist'),
        (['config.py', 'none.pth', 'digit.png'], 'none.pth can not be found'),
        (['config.py', 'weights.pth', 'config.py'], 'failed to load image: config.py'),
        ([*FITTING, '--layer', 'stages.7'], "no module 'stages.7'"),
        ([*FITTING, '--category', '10'], 'category must be from 0 to 9, but is 10'),
        ([*FITTING, '--category', '-1'], 'category must be from 0 to 9, but is -1'),
        ([*FITTING, '--out', 'cam.gif2'], '--out cam.gif2: a picture is one of .png, '),
        ([*FITTING, '--device', 'gpu'], 'at start of device string: gpu'),
    ],
)
def test_mistakes_are_one_line(tool, place, arguments, words, capsys):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1


def test_only_classifiers_have_classes_of_images(tool, place, capsys):
    Path('config.py').write_text("default_scope = 'mmdet'\nmodel = dict(type='RetinaNet')\n")
    with pytest.raises(SystemExit):
        tool.main(['config.py', 'weights.pth', 'digit.png'])
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == 'error: config.py is no config of a classifier: its model has no head'
