"""The command that converts official checkpoints; the converters are tested with the models."""

import argparse
import runpy
import sys
from pathlib import Path

import naive_sequence
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

import mmv2m.models  # noqa: F401
from mmv2m.utils import CONVERTERS, convert_official_checkpoint

TOOL = Path(__file__).resolve().parents[2] / 'tools/model_converters/official_to_mmv2m.py'
ARCH = dict(embed_dims=8, depths=(1, 1, 1, 1), state_dims=2)
LOCAL_ARCH = dict(ARCH, scans=(('h', 'v', 'w2', 'w3'),) * 4)


def run_tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')


@pytest.mark.parametrize(
    ('family', 'name', 'arch', 'weights'),
    [
        ('vim', 'Vim', ARCH, naive_sequence.vim_weights(9)),
        ('local-vim', 'LocalVim', LOCAL_ARCH, naive_sequence.local_vim_weights(3)),
    ],
)
def test_result_loads_into_a_classifier(tmp_path, monkeypatch, family, name, arch, weights):
    src, dst = tmp_path / 'official.pth', tmp_path / 'mmv2m.pth'
    wrapped = {f'module.{key}': value for key, value in weights.items()}
    torch.save(dict(model=wrapped, args=argparse.Namespace(lr=1e-3), epoch=3), src)
    run_tool(monkeypatch, family, src, dst)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(type=name, arch=arch, img_size=12, patch_size=4),
                head=dict(type='LinearClsHead', num_classes=5, in_channels=8),
            )
        )
    model.load_state_dict(torch.load(dst)['state_dict'], strict=True)
    assert torch.equal(model.head.fc.weight, weights['head.weight'].float())


def test_entries_that_hold_no_weights(tmp_path, monkeypatch):
    src, dst = tmp_path / 'official.pth', tmp_path / 'mmv2m.pth'
    weights = naive_sequence.vim_weights(4)
    wrapped = {f'module.{key}': value for key, value in weights.items()}
    torch.save(dict(model=None, ema_model=wrapped, epoch=3), src)
    run_tool(monkeypatch, 'vim', src, dst)
    assert torch.equal(torch.load(dst)['state_dict']['head.fc.weight'], weights['head.weight'])
    for entry, words in (
        ('model', "the entry 'model' is None; weights are in ema_model"),
        ('epoch', "the entry 'epoch' holds no weights; weights are in ema_model"),
    ):
        with pytest.raises(SystemExit, match=words):
            run_tool(monkeypatch, 'vim', src, dst, '--entry', entry)
    torch.save(dict(model=weights | dict(more=None)), src)
    with pytest.raises(SystemExit, match="the entry 'model' holds 'more', which is no tensor"):
        run_tool(monkeypatch, 'vim', src, dst)


def test_another_entry(tmp_path):
    first, second = naive_sequence.vim_weights(4), naive_sequence.vim_weights(4)
    second = {key: value + 1 for key, value in second.items()}
    torch.save(dict(model=first, model_ema=second), tmp_path / 'both.pth')
    for entry, weights in ((None, first), ('model', first), ('model_ema', second)):
        convert_official_checkpoint('vim', tmp_path / 'both.pth', tmp_path / 'out.pth', entry)
        converted = torch.load(tmp_path / 'out.pth')['state_dict']
        assert torch.equal(converted['head.fc.weight'], weights['head.weight'])


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda w: w.pop('cls_token'), "not the weights of a Vim: .* missing .'cls_token'"),
        (lambda w: w.update(extra=w['head.bias']), "unknown keys .'extra'"),
        (lambda w: w.update(pos_embed=torch.zeros(1, 7, 8)), 'for 6 patches, which is no square'),
        (
            lambda w: [w.pop(key) for key in list(w) if key.startswith('layers.3.')],
            'must divide into 4 stages, but there are 3',
        ),
        (
            lambda w: [w.pop(key) for key in list(w) if key.startswith('layers.')],
            'must divide into 4 stages, but there are 0',
        ),
    ],
)
def test_other_weights_are_refused_in_one_line(tmp_path, monkeypatch, change, words):
    weights = naive_sequence.vim_weights(4)
    change(weights)
    with pytest.raises(ValueError, match=words):
        CONVERTERS['vim'](weights)
    torch.save(weights, tmp_path / 'official.pth')
    with pytest.raises(SystemExit, match=words) as stop:
        run_tool(monkeypatch, 'vim', tmp_path / 'official.pth', tmp_path / 'mmv2m.pth')
    assert '\n' not in str(stop.value) and '"' not in str(stop.value)
    assert not (tmp_path / 'mmv2m.pth').exists()


def test_no_such_file_entry_or_checkpoint(tmp_path, monkeypatch):
    src, dst = tmp_path / 'official.pth', tmp_path / 'mmv2m.pth'
    with pytest.raises(SystemExit, match='No such file'):
        run_tool(monkeypatch, 'vim', src, dst)
    src.write_text('not a checkpoint')
    with pytest.raises(SystemExit, match='not a checkpoint'):
        run_tool(monkeypatch, 'vim', src, dst)
    torch.save(dict(model=naive_sequence.vim_weights(4)), src)
    with pytest.raises(SystemExit, match='No such file or directory: .*nowhere'):
        run_tool(monkeypatch, 'vim', src, tmp_path / 'nowhere' / 'mmv2m.pth')
    with pytest.raises(SystemExit, match="no entry 'ema'; there are model"):
        run_tool(monkeypatch, 'vim', src, dst, '--entry', 'ema')
