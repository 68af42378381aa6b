"""Small versions of the nuclei and CamVid configs, and images made for them.

Both lie in the current folder, where the tests of the tools work.
"""

import json
import math
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from small_models import ARCHS, WIDTHS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
SIZES = ((48, 80), (64, 56), (80, 64))
"""Heights and widths of the images: not square, no multiples of 32."""
SMALLER = dict(scale=(128, 64), crop_size=(64, 96))
"""Settings of transforms, for such images."""


def make_nuclei(folder='data/nuclei'):
    """A bright ellipse or two on a dark ground in each image, in COCO's format with RLE masks."""
    for split in ('train', 'val'):
        images, annotations = [], []
        for i, size in enumerate(SIZES):
            masks = [_ellipse(size, 0.3, 0.3), _ellipse(size, 0.7, 0.65)][: 1 + i % 2]
            name = f'{split}{i}.jpg'
            _save(f'{folder}/{split}/{name}', _paint(np.stack(masks).any(0).astype(np.uint8)))
            images.append(dict(id=i, file_name=name, height=size[0], width=size[1]))
            annotations += [_annotation(mask, i) for mask in masks]
        for number, annotation in enumerate(annotations):
            annotation['id'] = number + 1
        file = Path(folder, 'annotations', f'instances_{split}.json')
        file.parent.mkdir(exist_ok=True)
        categories = [dict(id=1, name='nucleus')]
        file.write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories))
        )


def make_bowl(folder='stage1_train', count=5):
    """The same nuclei as they are published: of each image a folder, in it a PNG a nucleus."""
    for i in range(count):
        size = SIZES[i % len(SIZES)]
        masks = [_ellipse(size, 0.3, 0.3), _ellipse(size, 0.7, 0.65)]
        pixels = _paint(np.stack(masks).any(0).astype(np.uint8))
        name = f'{i:064x}'[::-1]
        opaque = np.full((*size, 1), 255, np.uint8)
        _save(f'{folder}/{name}/images/{name}.png', np.concatenate((pixels, opaque), 2))
        for number, mask in enumerate(masks):
            _save(f'{folder}/{name}/masks/{number}.png', mask.astype(np.uint8) * 255)


def make_camvid(folder='data/camvid'):
    """Class 0 above, class 3 below, a blob of class 8, and two rows to ignore."""
    for split in ('train', 'val', 'test'):
        for i, size in enumerate(SIZES):
            labels = np.zeros(size, np.uint8)
            labels[size[0] // 2 :] = 3
            labels[_ellipse(size, 0.4 + i / 10, 0.4)] = 8
            _save(f'{folder}/img_dir/{split}/{i}.jpg', _paint(labels))
            labels[:2] = 255
            _save(f'{folder}/ann_dir/{split}/{i}.png', labels)


def tiny_mask_rcnn():
    """Path of the nuclei config with everything made small, for the CPU; trains 20 iterations."""
    cfg = Config.fromfile(CONFIGS / 'mask-rcnn_v2m-s_1xb8-24e_nuclei.py')
    cfg.model.backbone.update(arch=ARCHS['pyramid'], drop_path_rate=0.0)
    head = 'model.roi_head'
    return _finish(
        cfg,
        'tiny_nuclei.py',
        {
            'model.neck': dict(in_channels=list(WIDTHS['pyramid']), out_channels=16),
            'model.rpn_head': dict(in_channels=16, feat_channels=16),
            f'{head}.bbox_roi_extractor.out_channels': 16,
            f'{head}.bbox_head': dict(in_channels=16, fc_out_channels=32),
            f'{head}.mask_roi_extractor.out_channels': 16,
            f'{head}.mask_head': dict(in_channels=16, conv_out_channels=16, num_convs=1),
            'model.train_cfg.rcnn.sampler.num': 32,
            'model.test_cfg.rcnn.score_thr': 0.0,
            'model.test_cfg.rcnn.max_per_img': 5,
            'train_cfg': dict(max_epochs=20, val_interval=20),
            'default_hooks.checkpoint.interval': 20,
        },
    )


def tiny_upernet(name):
    """Path of a CamVid config with everything made small, for the CPU; trains 20 iterations."""
    cfg = Config.fromfile(CONFIGS / f'{name}_1xb16-1k_camvid.py')
    kind = 'pyramid' if cfg.model.backbone.arch.startswith('pyramid') else 'plain'
    cfg.model.backbone.update(arch=ARCHS[kind], drop_path_rate=0.0)
    widths = list(WIDTHS[kind])
    if kind == 'plain':
        cfg.model.backbone.img_size = SMALLER['crop_size']
        cfg.model.neck.embed_dim = widths[0]
    return _finish(
        cfg,
        f'tiny_{name}.py',
        {
            'model.data_preprocessor.size': SMALLER['crop_size'],
            'model.decode_head': dict(in_channels=widths, channels=16),
            'model.auxiliary_head': dict(in_channels=widths[2], channels=16),
            'train_cfg': dict(max_iters=20, val_interval=20),
            'default_hooks.checkpoint.interval': 20,
        },
    )


def assert_learned(work_dir):
    """The 20 iterations of a small config had finite losses, and the last ones smaller losses."""
    (file,) = Path(work_dir).glob('*/vis_data/scalars.json')
    losses = [entry['loss'] for entry in map(json.loads, file.open()) if 'loss' in entry]
    assert len(losses) == 20
    assert all(map(math.isfinite, losses))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def _finish(cfg, path, changes):
    for split in ('train', 'val', 'test'):
        for transform in cfg[f'{split}_dataloader'].dataset.pipeline:
            transform.update({key: SMALLER[key] for key in SMALLER if key in transform})
    loader = dict(num_workers=0, persistent_workers=False)
    cfg.merge_from_dict(
        {
            'optim_wrapper.type': 'OptimWrapper',
            'optim_wrapper.optimizer.lr': 5e-3,
            'train_dataloader': dict(batch_size=3, **loader),
            'val_dataloader': loader,
            'test_dataloader': loader,
            'default_hooks.logger.interval': 1,
            'log_processor.window_size': 1,
            'randomness': dict(seed=0),
            **changes,
        }
    )
    cfg.param_scheduler = []
    cfg.dump(path)
    return path


def _ellipse(size, y, x):
    rows, columns = np.ogrid[: size[0], : size[1]]
    return ((rows / size[0] - y) / 0.2) ** 2 + ((columns / size[1] - x) / 0.15) ** 2 < 1


def _paint(labels):
    """A grey value for each label, a little noisy."""
    noise = np.random.default_rng(0).integers(0, 20, (*labels.shape, 3))
    values = 20 + 25 * labels.astype(int) if labels.max() > 1 else 20 + 200 * labels.astype(int)
    return (values[..., None] + noise).astype(np.uint8)


def _annotation(mask, image_id):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    area, box = int(coco_mask.area(rle)), coco_mask.toBbox(rle).tolist()
    rle['counts'] = rle['counts'].decode()
    return dict(image_id=image_id, category_id=1, iscrowd=0, area=area, bbox=box, segmentation=rle)


def _save(path, pixels):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
