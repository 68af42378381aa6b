"""What a token gets from the scan of each corner, and the command that draws it."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import make
from visualized import load_tool, write_tiny_model

from mmv2m.models import SS2D, VMamba
from mmv2m.visualization import corner_views


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny_model()


RECTANGLES = dict(
    UL=(slice(0, 3), slice(0, 2)),
    LR=(slice(2, 5), slice(1, 5)),
    UR=(slice(0, 3), slice(1, 5)),
    LL=(slice(2, 5), slice(0, 2)),
)
"""The rows and columns between the token at (2, 1) and each corner of a 5 x 5 map."""


@pytest.mark.parametrize(
    ('kind', 'side', 'layer'), [('plain', 32, None), ('pyramid', 20, 'stages.0.0.mixer')]
)
def test_a_corner_sees_the_rectangle_towards_it(kind, side, layer):
    model, x = make(kind).eval(), torch.randn(1, 3, side, side)
    views = corner_views(model, x, layer, token=(2, 1))
    assert {view.corner for view in views} == set(RECTANGLES)
    for view in views:
        expected = np.zeros((5, 5), dtype=bool)
        expected[RECTANGLES[view.corner]] = True
        assert np.array_equal(view.weight > 0, expected) and view.weight.max() == 1


def test_the_corners_together_are_the_mixer():
    """Before the last gate, a mixer's gradient at a token is the sum of its corners'."""
    model, x = make(corners=('LR',), class_token='mean').eval(), torch.randn(1, 3, 24, 32)
    (view,) = corner_views(model, x, 'stages.0.0.mixer', token=(0, 0))
    assert (view.corner, view.first, view.second) == ('LR', 'left', 'up')
    assert view.weight.shape == (3, 4) and (view.weight > 0).all()
    mixer = model.stages[0][0].mixer
    kept = []
    handle = mixer.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    model(x)
    handle.remove()
    tokens = kept[0].detach().requires_grad_()
    inner, gate = mixer.in_proj(tokens).chunk(2, -1)
    y = mixer._scan(inner, gate)[0, 0, 0].norm()
    weight = torch.autograd.grad(y, tokens)[0][0].norm(dim=-1)
    assert np.allclose(view.weight, weight / weight.max(), atol=1e-5)
    assert isinstance(mixer, SS2D)


def test_what_has_no_corners():
    arch, x = dict(embed_dims=8, depths=(1, 1, 1, 1)), torch.randn(1, 3, 32, 32)
    with pytest.raises(TypeError, match='corners are those of a V2M, .* VMamba'):
        corner_views(VMamba(arch), x)
    with pytest.raises(ValueError, match='released geometry'):
        corner_views(make(geometry='released', class_token='mean'), x)
    with pytest.raises(ValueError, match=r'5 x 5 tokens, none at 7, 0'):
        corner_views(make(), x, token=(7, 0))
    with pytest.raises(ValueError, match="no mixer 'stages.9.0.mixer'"):
        corner_views(make(), x, 'stages.9.0.mixer')


def test_picture(place, capsys):
    tool = load_tool('corner_views')
    tool.main(['config.py', 'weights.pth', '--size', '8', '--image', 'digit.png'])
    assert capsys.readouterr().out.splitlines()[-1] == (
        '3 x 3 tokens, the one at 1, 1: corner_views.png'
    )
    assert Image.open('corner_views.png').size == (1460, 360)


def test_a_mistake_is_one_line(place, capsys):
    with pytest.raises(SystemExit):
        load_tool('corner_views').main(['config.py', '--size', '8', '--layer', 'stages.7'])
    error = capsys.readouterr().err
    assert "no mixer 'stages.7'" in error and error.count('\n') == 1
