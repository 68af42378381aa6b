import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from tiny_digits import TINY_DIGITS

from mmv2m.engine.errors import UserError, did_you_mean, exit_on_user_error
from mmv2m.engine.preflight.coco_entries import check_entries
from mmv2m.engine.preflight.data import check_data
from mmv2m.engine.preflight.weights import check_weights
from mmv2m.utils.meta_model import build_on_meta


def _config(**dataset):
    return Config(
        dict(
            default_scope='mmpretrain', train_dataloader=dict(dataset=dict(pipeline=[], **dataset))
        )
    )


@pytest.mark.parametrize(
    'dataset',
    [
        dict(type='CIFAR10', data_root='missing'),  # downloads itself
        dict(type='CustomDataset', data_root='s3://bucket/missing'),
        dict(type='CustomDataset', data_prefix='s3://bucket/missing'),
        dict(type='mmdet.CocoDataset', data_root='missing', backend_args=dict(backend='petrel')),
    ],
)
def test_data_left_alone(dataset):
    check_data(_config(**dataset), ('train', 'val'))


@pytest.mark.parametrize(
    ('dataset', 'setting', 'path'),
    [
        (dict(type='CIFAR10', data_root='missing', download=False), 'data_root', 'missing'),
        (dict(type='CustomDataset', data_root='.', ann_file='a.txt'), 'ann_file', 'a.txt'),
        (dict(type='CustomDataset', data_root='.', data_prefix='img'), 'data_prefix', 'img'),
        (
            dict(type='CustomDataset', data_root='.', data_prefix=dict(img_path='img')),
            'data_prefix.img_path',
            'img',
        ),
        (dict(type='mmseg.ADE20KDataset', data_root='ade'), 'data_root', 'ade'),
    ],
)
def test_missing_data(dataset, setting, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        check_data(_config(**dataset), ('train',))
    assert f'train_dataloader.dataset.{setting}: {tmp_path / path} does not exist' in str(
        error.value
    )


def test_every_wrapped_dataset_is_checked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good, bad = dict(type='CustomDataset', data_root='.'), dict(type='CustomDataset', data_root='x')
    cfg = _config(type='ConcatDataset', datasets=[good, dict(type='KFoldDataset', dataset=bad)])
    with pytest.raises(UserError, match=r'dataset\.datasets\[1\]\.dataset\.data_root'):
        check_data(cfg, ('train',))


def test_metric_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config(dict(val_evaluator=[dict(type='CocoMetric', ann_file='ann.json')]))
    with pytest.raises(UserError, match='val_evaluator.ann_file'):
        check_data(cfg, ('val',))


def test_panoptic_annotations_are_left_alone(tmp_path):
    file = tmp_path / 'panoptic.json'
    annotation = dict(image_id=1, file_name='1.png', segments_info=[])
    content = dict(images=[dict(id=1)], categories=[dict(id=1)], annotations=[annotation])
    file.write_text(json.dumps(content))
    check_entries('val_dataloader.dataset', str(file))


def test_checkpoints_have_to_hold_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('tiny.py').write_text(TINY_DIGITS)
    tiny = Config.fromfile('tiny.py')
    model = build_on_meta(tiny)
    whole = {name: torch.zeros(p.shape) for name, p in model.named_parameters()}
    torch.save(dict(state_dict={f'module.{k}': v for k, v in whole.items()}), 'whole.pth')
    check_weights(tiny, 'whole.pth')
    torch.save(whole, 'bare.pth')
    check_weights(tiny, 'bare.pth')
    first = next(iter(whole))
    torch.save(dict(state_dict={k: v for k, v in whole.items() if k != first}), 'part.pth')
    Path('text.pth').write_text('text')
    torch.save(whole | {'head.fc.bias': torch.zeros(7)}, 'others.pth')
    torch.save(torch.zeros(1), 'tensor.pth')
    for name, words in (
        ('part.pth', f'lacks 1 of the {len(whole)} parameters of tiny.py, such as {first}'),
        ('text.pth', 'not a checkpoint'),
        ('others.pth', r'not fit tiny.py: size mismatch for head.fc.bias: .*\[7\]'),
        ('tensor.pth', 'a checkpoint is a dict, but this file holds a Tensor'),
        ('none.pth', 'does not exist'),
        ('https://example.org/x.pth', 'must be a local file'),
    ):
        with pytest.raises(UserError, match=words):
            check_weights(tiny, name)


@pytest.mark.parametrize(('rank', 'lines'), [('0', 'error: one line\n'), ('1', '')])
def test_only_the_first_process_prints(rank, lines, capsys, monkeypatch):
    monkeypatch.setenv('RANK', rank)
    with pytest.raises(SystemExit) as stop, exit_on_user_error():
        raise UserError('one\nline')
    assert stop.value.code == 2
    assert capsys.readouterr().err == lines


def test_did_you_mean():
    assert did_you_mean('v2m', ['V2M', 'ResNet']) == "; did you mean 'V2M'?"
    assert did_you_mean('zzz', ['V2M']) == ''
