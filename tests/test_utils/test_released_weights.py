import argparse
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from small_models import PLAIN

import mmv2m.models  # noqa: F401
from mmv2m.utils import convert_released_weights
from mmv2m.utils.released_weights import _released_names

TOOL = Path(__file__).resolve().parents[2] / 'tools/model_converters/released_to_mmv2m.py'


@pytest.fixture
def made():
    """A small model as the released code trains it, and its weights in that code's names."""
    backbone = dict(
        type='V2M', arch=PLAIN, img_size=32, patch_size=8, geometry='released', class_token='mean'
    )
    head = dict(type='LinearClsHead', num_classes=3, in_channels=16)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))
    weights = model.state_dict()
    released = {old: torch.randn_like(weights[new]) for old, new in _released_names(4).items()}
    released['pos_embed'] = released['pos_embed'].flatten(1, 2)
    return model, released


def test_every_weight_has_its_place(made):
    model, released = made
    assert sorted(_released_names(depth=4).values()) == sorted(model.state_dict())
    model.load_state_dict(convert_released_weights(released))
    mixer = model.backbone.stages[2][0].mixer
    assert torch.equal(mixer.ssm['all'].columns.A_log, released['layers.2.mixer.A_2_log'])
    assert torch.equal(mixer.ssm['all'].rows.D, released['layers.2.mixer.D'])


@pytest.fixture
def convert(monkeypatch, tmp_path):
    """Run the tool on a file."""

    def run(src, *options):
        monkeypatch.setattr(
            sys, 'argv', [str(TOOL), str(src), str(tmp_path / 'mmv2m.pth'), *options]
        )
        runpy.run_path(str(TOOL), run_name='__main__')
        return torch.load(tmp_path / 'mmv2m.pth')

    return run


def test_the_command_converts_what_the_released_code_saves(made, convert, tmp_path):
    model, released = made
    args = argparse.Namespace(lr=1e-3, output_dir=tmp_path)
    torch.save(dict(model=released, args=args, epoch=3), tmp_path / 'released.pth')
    model.load_state_dict(convert(tmp_path / 'released.pth')['state_dict'])
    assert torch.equal(model.head.fc.weight, released['head.weight'])


def test_the_command_takes_an_average_that_a_wrapper_kept(made, convert, tmp_path):
    model, released = made
    wrapped = {f'module.{key}': value + 1 for key, value in released.items()}
    torch.save(dict(model=released, ema_model=wrapped), tmp_path / 'released.pth')
    model.load_state_dict(convert(tmp_path / 'released.pth', '--entry', 'ema_model')['state_dict'])
    assert torch.equal(model.head.fc.weight, released['head.weight'] + 1)


def test_other_files_are_refused_in_one_line(convert, tmp_path):
    src = tmp_path / 'released.pth'
    with pytest.raises(SystemExit, match='No such file'):
        convert(src)
    src.write_text('garbage')
    with pytest.raises(SystemExit, match='not a checkpoint'):
        convert(src)
    torch.save(torch.ones(2), src)
    with pytest.raises(SystemExit, match='a checkpoint is a dict, but this file holds a Tensor'):
        convert(src)
    torch.save(dict(model={'layers.0.D': torch.ones(2)}), src)
    with pytest.raises(SystemExit, match=r'error: .*released.pth: a released V2M has a number of'):
        convert(src)
    assert not (tmp_path / 'mmv2m.pth').exists()
