"""Tiny runs of each task library through tools/train.py and tools/test.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.fileio import load
from PIL import Image
from tiny_digits import DIGITS_AND_MODEL

ROOT = Path(__file__).resolve().parents[2]
SCHEDULE = """
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
val_cfg = test_cfg = dict()
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='gloo'))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1),
                     checkpoint=dict(type='CheckpointHook', interval=1),
                     visualization=dict(type='%s'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='%s', vis_backends=vis_backends)
"""
DIGITS = DIGITS_AND_MODEL + SCHEDULE % ('VisualizationHook', 'UniversalVisualizer')
COCO = (
    """
default_scope = 'mmdet'
model = dict(
    type='FCOS', data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, num_stages=4, out_indices=(2, 3)),
    neck=dict(type='FPN', in_channels=[256, 512], out_channels=8, num_outs=2),
    bbox_head=dict(type='FCOSHead', num_classes=1, in_channels=8, feat_channels=8, stacked_convs=1,
                   strides=[16, 32], regress_ranges=((-1, 64), (64, 1e8)),
                   norm_cfg=dict(type='GN', num_groups=2, requires_grad=True)),
    test_cfg=dict(nms_pre=10, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=5))
common = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
resize = [dict(type='Resize', scale=(64, 64))]
data = dict(type='CocoDataset', data_root='coco', ann_file='ann.json',
            data_prefix=dict(img='img/'), metainfo=dict(classes=('thing',)))
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler'),
    dataset=dict(**data, pipeline=common + resize + [dict(type='PackDetInputs')]))
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**data, test_mode=True,
                 pipeline=[common[0], *resize, common[1],
                           dict(type='PackDetInputs', meta_keys=meta)]))
val_evaluator = test_evaluator = dict(type='CocoMetric', ann_file='coco/ann.json')
"""
    + SCHEDULE % ('DetVisualizationHook', 'DetLocalVisualizer')
)
SEG = (
    """
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32)),
    backbone=dict(type='ResNet', depth=18, out_indices=(3,), num_stages=4),
    decode_head=dict(type='FCNHead', in_channels=512, channels=8, num_convs=1, num_classes=2,
                     loss_decode=dict(type='CrossEntropyLoss')),
    test_cfg=dict(mode='whole'))
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
pack = [dict(type='PackSegInputs')]
data = dict(type='BaseSegDataset', data_root='seg', img_suffix='.png',
            data_prefix=dict(img_path='img', seg_map_path='ann'),
            metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [255, 0, 0]]))
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler'),
    dataset=dict(**data, pipeline=load + pack))
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**data, pipeline=load + pack))
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
tta_model = dict(type='SegTTAModel')
tta_pipeline = [load[0], dict(type='TestTimeAug', transforms=[
    [dict(type='Resize', scale_factor=1.0, keep_ratio=True)],
    [dict(type='RandomFlip', prob=0.0, direction='horizontal'),
     dict(type='RandomFlip', prob=1.0, direction='horizontal')], [load[1]], pack])]
"""
    + SCHEDULE % ('SegVisualizationHook', 'SegLocalVisualizer')
)


@pytest.fixture
def images(tmp_path):
    """Four images of 64 x 64 in coco/img and of 32 x 32 in seg/img, with annotations."""
    rng = np.random.default_rng(0)
    for folder in ('coco/img', 'seg/img', 'seg/ann'):
        (tmp_path / folder).mkdir(parents=True)
    entries = []
    for i in range(4):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'coco/img/{i}.png')
        Image.fromarray(pixels[:32, :32]).save(tmp_path / f'seg/img/{i}.png')
        Image.fromarray(pixels[:32, :32, 0] // 128).save(tmp_path / f'seg/ann/{i}.png')
        entries.append(dict(id=i, file_name=f'{i}.png', height=64, width=64))
    boxes = [
        dict(id=i + 1, image_id=i, category_id=1, bbox=[8, 8, 40, 40], area=1600, iscrowd=0)
        for i in range(4)
    ]
    (tmp_path / 'coco/ann.json').write_text(
        json.dumps(dict(images=entries, annotations=boxes, categories=[dict(id=1, name='thing')]))
    )


def _write(text):
    Path('tiny.py').write_text(text)
    return 'tiny.py'


def test_mmpretrain(train, test):
    config = _write(DIGITS)
    amp = ['optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.dtype=bfloat16']
    train([config, '--no-amp', '--resume', '--cfg-options', *amp])
    work_dir = Path('work_dirs/tiny')
    assert (work_dir / 'epoch_1.pth').exists()
    (log,) = work_dir.glob('*/*.log')
    assert 'Nothing to resume in work_dirs/tiny: the training starts' in log.read_text()

    work_dir = work_dir.rename('work_dirs/moved')
    rest = [config, '--resume', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=2']
    train([*rest, 'work_dir=work_dirs/moved'])
    last = (work_dir / 'last_checkpoint').read_text()
    assert last.endswith('epoch_2.pth')
    # A quick computer begins both trainings in one second, and their logs are one file then.
    log = sorted(work_dir.glob('*/*.log'))[-1].read_text()
    assert 'resumed epoch: 1' in log and 'Epoch(val)' not in log.partition('resumed epoch: 1')[2]

    metrics = test([config, last, '--out', 'm.json', '--out-item', 'metrics', '--show-dir', 'show'])
    assert load('m.json') == metrics and 'accuracy/top1' in metrics
    assert len(list(Path('show').iterdir())) == 16
    test([config, last, '--out', 'p.pkl', '--tta'])
    assert len(load('p.pkl')) == 16


def test_mmdet(train, test, images):
    config = _write(COCO)
    train([config, '--work-dir', 'run'])
    metrics = test([config, 'run/epoch_1.pth', '--work-dir', 'run', '--out', 'p.pkl', '--tta'])
    assert 'coco/bbox_mAP' in metrics
    assert len(load('p.pkl')) == 4
    test([config, 'run/epoch_1.pth', '--work-dir', 'run', '--show-dir', 'show'])
    assert len(list(Path('run').glob('*/show/*'))) == 4


def test_mmseg(train, test, images):
    config = _write(SEG)
    train([config, '--work-dir', 'run'])
    argv = [config, 'run/epoch_1.pth', '--work-dir', 'run']
    assert 'mIoU' in test([*argv, '--out', 'maps', '--tta'])
    assert len(list(Path('maps').iterdir())) == 4
    test([*argv, '--show-dir', 'show'])
    assert len(list(Path('show').rglob('*.png'))) == 4


@pytest.mark.skipif(os.name == 'nt', reason='shell scripts')
def test_dist_test_script(train):
    """Two processes on the CPU; test_two_gpus.py trains by such processes."""
    config = _write(DIGITS)
    train([config, '--work-dir', 'run'])
    env = dict(
        os.environ,
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        PORT='29517',
        OMP_NUM_THREADS='1',
        CUDA_VISIBLE_DEVICES='',
    )
    test = [ROOT / 'tools' / 'dist_test.sh', config, 'run/epoch_1.pth', '2', '--work-dir', 'test']
    subprocess.run(['bash', *test], check=True, env=env)
    (log,) = Path('test').glob('*/*.log')
    assert 'GPU number: 2' in log.read_text() and 'accuracy/top1' in log.read_text()
