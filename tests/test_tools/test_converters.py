"""Files that a converter is given or is to write, and that it cannot."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from small_models import make

from mmv2m.utils.released_weights import _released_names


@pytest.fixture
def convert(monkeypatch):
    """Run the converter of V2M's released code: None, or its error line."""
    tool = Path(__file__).resolve().parents[2] / 'tools/model_converters/released_to_mmv2m.py'

    def run(*argv):
        monkeypatch.setattr(sys, 'argv', ['released_to_mmv2m.py', *argv])
        try:
            runpy.run_path(str(tool), run_name='__main__')
        except SystemExit as stop:
            return stop.code
        return None

    return run


@pytest.fixture
def released():
    """A checkpoint with the names of the released code."""
    model = make(class_token='mean', geometry='released')
    weights = {f'backbone.{name}': value for name, value in model.state_dict().items()}
    weights |= {'head.fc.weight': torch.zeros(3, 16), 'head.fc.bias': torch.zeros(3)}
    official = {old: weights[new] for old, new in _released_names(4).items()}
    official['pos_embed'] = official['pos_embed'].flatten(1, 2)
    torch.save(dict(model=official), 'released.pth')
    return 'released.pth'


def test_where_the_result_goes(convert, released):
    before = Path(released).read_bytes()
    assert 'SRC and DST are both ./released.pth: give' in convert(released, './released.pth')
    assert Path(released).read_bytes() == before
    Path('link.pth').symlink_to(released)
    assert 'SRC and DST are both link.pth' in convert(released, 'link.pth')
    assert 'No such file or directory: weights' in convert(released, 'weights/new.pth')
    Path('weights').mkdir()
    assert 'DST weights is a folder, not a file' in convert(released, 'weights')
    assert convert('missing.pth', 'new.pth').startswith('error: missing.pth: ')
    assert convert(released, 'weights/new.pth') is None
    assert 'backbone.stages.0.0.mixer.in_proj.weight' in torch.load('weights/new.pth')['state_dict']


def test_a_file_that_is_converted_already(convert, released):
    assert convert(released, 'new.pth') is None
    line = convert('new.pth', 'again.pth')
    assert line.startswith('error: new.pth has the names of mmv2m already')
    assert line.endswith('use it as it is') and not Path('again.pth').exists()
