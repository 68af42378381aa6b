"""What docs/detection_segmentation.md makes of the published nuclei is what their config reads."""

import re
from pathlib import Path

import numpy as np
from dense_data import make_bowl
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from mmv2m.engine.config import load_config
from mmv2m.engine.preflight.data import check_data

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs/detection_segmentation.md'


def test_the_documented_conversion(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_bowl(count=5)
    (program,) = re.findall(r'^```python\n(import json\n.*?)^```$', PAGE.read_text(), re.M | re.S)
    exec(compile(program, str(PAGE), 'exec'), {})
    cfg = load_config(str(ROOT / 'configs/mask-rcnn_v2m-s_1xb8-24e_nuclei.py'))
    check_data(cfg, ('train', 'val', 'test'))
    found = []
    for loader, length in ((cfg.train_dataloader, 4), (cfg.val_dataloader, 1)):
        pipeline = [step for step in loader.dataset.pipeline if step.type.startswith('Load')]
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = DATASETS.build(loader.dataset | dict(pipeline=pipeline))
        assert len(dataset) == length
        for sample in dataset:
            found.append(Path(sample['img_path']).stem)
            (folder,) = Path('stage1_train').glob(f'{found[-1]}*')
            masks = [np.asarray(Image.open(file)) > 0 for file in sorted(folder.glob('masks/*'))]
            assert sample['img'].shape[:2] == masks[0].shape
            assert np.array_equal(sample['gt_masks'].masks, np.stack(masks))
            boxes = sample['gt_bboxes'].tensor.numpy()
            for mask, box in zip(masks, boxes, strict=True):
                rows, columns = np.nonzero(mask)
                outer = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                assert np.array_equal(box, outer)
            assert not sample['gt_bboxes_labels'].any()
    assert len(set(found)) == 5
