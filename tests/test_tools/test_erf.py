"""Effective receptive fields: their values, and the command that draws them."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import make
from torch import nn
from visualized import load_tool, write_tiny_model

from mmv2m.visualization import effective_receptive_field, side_holding


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny_model()


def test_of_convolutions():
    """Two 3 x 3 convolutions of ones: the field is known."""
    convs = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(2)))
    for conv in convs:
        nn.init.ones_(conv.weight)
    found = effective_receptive_field(convs, torch.rand(2, 1, 9, 11))
    line = np.zeros(11, dtype=np.float32)
    line[3:8] = np.array([1, 2, 3, 2, 1]) / 3
    assert np.allclose(found, line[1:10, None] * line[None], atol=1e-6)
    moved = effective_receptive_field(convs, torch.rand(1, 1, 9, 11), place=(2, 3))
    assert np.array_equal(np.argwhere(moved == 1), [[2, 3]])


@pytest.mark.parametrize(
    ('corners', 'seen'), [(('UL',), (slice(0, 3), slice(0, 2))), (('UL', 'LR', 'UR', 'LL'), ...)]
)
def test_of_v2m_is_what_its_corners_see(corners, seen):
    arch = dict(embed_dims=16, depths=(1, 0, 0, 0), state_dims=2)
    settings = dict(arch=arch, class_token='mean', corners=corners, out_indices=0)
    model = make(**settings).eval()
    found = effective_receptive_field(model, torch.randn(2, 3, 32, 32), place=(2, 1))
    patches = found.reshape(4, 8, 4, 8).max((1, 3))
    expected = np.zeros((4, 4), dtype=bool)
    expected[seen] = True
    assert np.array_equal(patches > 0, expected) and found.max() == 1
    assert model.out_type == 'cls_token'


def test_side_holding():
    field = np.zeros((9, 9))
    field[4, 4], field[2, 4], field[0, 0] = 2, 1, 1
    assert [side_holding(field, share) for share in (0.5, 0.75, 1)] == [1, 5, 9]


def test_picture(place, capsys):
    tool = load_tool('erf')
    tool.main(['config.py', 'weights.pth', '--size', '8', '--images', 'digit.png'])
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines] == ['as a training starts', 'trained']
    assert '50% in ' in lines[1] and last == 'erf.png'
    assert Image.open('erf.png').size == (780, 360)


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['config.py', 'none.pth'], 'none.pth does not exist'),
        (['config.py', '--images', 'none.png', '--size', '8'], 'none.png'),
        (['config.py', '--size', '8', '16', '24'], '--size takes one or two positive numbers, but'),
        (['config.py', '--size', '-8'], '--size takes one or two positive numbers, but got -8'),
        (['config.py', '--size', '8', '--out', 'erf.mp4'], '--out erf.mp4: a picture is one of'),
        (['config.py', '--size', '8', '--out', 'config.py/erf.png'], 'config.py'),
    ],
)
def test_mistakes_are_one_line(place, arguments, words, capsys):
    with pytest.raises(SystemExit):
        load_tool('erf').main(arguments)
    error = capsys.readouterr().err
    assert words in error and error.startswith('error: ') and error.count('\n') == 1
