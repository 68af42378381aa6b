"""A backbone put in the place of another, with what is forgotten then."""

from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FASTER_RCNN = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
MASK_RCNN = str(ROOT / 'configs/_base_/mask-rcnn_1x_coco.py')
RESNET = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'
SEGMENTOR = Path(find_spec('mmseg').origin).parent / '.mim/configs'
FCN = SEGMENTOR / 'fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'
OWN = "custom_imports = dict(imports=['mmv2m.models'], allow_failed_imports=False)\n"
PYRAMID = "dict(_delete_=True, type='V2M', arch='pyramid-small'"
MAPS = "out_type='featmap', out_indices=(0, 1, 2, 3))"


@pytest.fixture
def refused(train, fails, tmp_path):
    """The line that refuses a config with such a base and such a model."""

    def run(base, model, *options):
        file = tmp_path / 'mine.py'
        file.write_text(f'_base_ = {str(base)!r}\n{OWN}model = dict({model})\n')
        return fails(train, file, *(['--cfg-options', *options] if options else []))

    return run


@pytest.mark.parametrize(
    ('base', 'old'), [(FASTER_RCNN, 'ResNet'), (RESNET, 'ResNet'), (FCN, 'ResNetV1c')]
)
def test_what_was_inherited(refused, base, old):
    line = refused(base, "backbone=dict(type='V2M', out_type='featmap')")
    assert "model.backbone (V2M): no setting 'depth'; 'depth', 'num_stages', " in line
    assert f'come from the {old} of {base}: write backbone=dict(_delete_=True, type=' in line


def test_a_type_swapped_by_an_option(refused):
    line = refused(RESNET, "backbone=dict(norm_eval=True), type='ImageClassifier'")
    assert 'data/imagenet does not exist' in line
    line = refused(RESNET, "type='ImageClassifier'", 'model.backbone.type=SwinTransformer')
    assert 'come from the ResNet of mine.py' in line


@pytest.mark.parametrize(
    ('base', 'rest', 'says'),
    [
        (FASTER_RCNN, ')', "set out_type='featmap', out_indices=(0, 1, 2, 3) in model.backbone"),
        (FCN, ', out_indices=(0, 1, 2, 3))', "set out_type='featmap' in model.backbone"),
        (RESNET, ')', "GlobalAveragePooling) pools maps: set out_type='featmap' in model.back"),
        (
            MASK_RCNN,
            ", out_type='featmap')",
            '[96, 192, 384, 768], but the backbone gives outputs of [768] channels; for four',
        ),
        (
            FASTER_RCNN,
            f', {MAPS}',
            'model.neck.in_channels is [256, 512, 1024, 2048], but the backbone gives outputs of '
            '[96, 192, 384, 768] channels',
        ),
    ],
)
def test_outputs_that_do_not_fit(refused, base, rest, says):
    extra = ', pretrained=None' if base is FCN else ''
    assert says in refused(base, f'backbone={PYRAMID}{rest}{extra}')


def test_heads_of_a_segmentor(refused):
    backbone = f'pretrained=None, backbone={PYRAMID}'
    line = refused(FCN, f'{backbone}, {MAPS}')
    assert 'model.decode_head.in_channels is 2048 of output 3' not in line
    assert 'model.decode_head.in_channels is 2048, but the backbone gives outputs of [96' in line
    head = 'decode_head=dict(in_channels=768), auxiliary_head=dict(in_channels=7)'
    line = refused(FCN, f'{backbone}, {MAPS}, {head}')
    assert 'model.auxiliary_head.in_channels is 7, but' in line
    line = refused(FCN, f"{backbone}, out_type='featmap'), {head}")
    assert 'model.decode_head.in_channels is 768 of output 3, but' in line
    assert 'set out_indices=(0, 1, 2, 3)' in line


def test_weights_of_the_old_backbone(refused):
    line = refused(FCN, f'backbone={PYRAMID}, {MAPS}')
    assert "model.pretrained is 'open-mmlab://resnet50_v1c', which EncoderDecoder hands to" in line
    assert 'V2M has no such setting: set model.pretrained=None' in line


def test_other_libraries_backbones_too(refused):
    line = refused(RESNET, "backbone=dict(_delete_=True, type='ResNet', depth=18)")
    assert 'head.in_channels is 2048, but the backbone gives 512 channels' in line
    line = refused(FASTER_RCNN, 'backbone=dict(depth=18)')
    assert 'but the backbone gives outputs of [64, 128, 256, 512] channels' in line
    line = refused(FASTER_RCNN, 'neck=dict(in_chanels=[256, 512, 1024, 2048])')
    assert "model.neck (FPN): no setting 'in_chanels'; did you mean 'in_channels' or" in line


def test_base_configs_of_mmseg(refused):
    line = refused('mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py', '')
    assert "a _base_ with 'mmseg::' cannot be found: mmengine looks for a package named" in line
    assert f'which is below {SEGMENTOR}/' in line
