"""Data of one's own: classes, folders, categories, suffixes and labels that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from dense_data import make_camvid, make_nuclei, tiny_mask_rcnn, tiny_upernet
from mmengine.config import Config
from PIL import Image

FOLDERS = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mmv2m.models'], allow_failed_imports=False)
model = dict(
    type='ImageClassifier',
    backbone=dict(type='V2M', arch=dict(embed_dims=16, depths=(1, 0, 0, 0), state_dims=2),
                  img_size=8, patch_size=4, out_indices=0),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=16))
data = dict(batch_size=2, num_workers=0)
train_dataloader = dict(sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(
    type='CustomDataset', data_root='pets', data_prefix='train',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]), **data)
val_dataloader = dict(sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type='CustomDataset', data_root='pets', data_prefix='val',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]), **data)
val_evaluator = dict(type='Accuracy', topk=(1,))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
"""
TRAIN = 'train_dataloader.dataset'


@pytest.fixture
def pets():
    """A config of two classes, and folders of them."""
    for split in ('train', 'val'):
        for name in ('cat', 'dog'):
            Path('pets', split, name).mkdir(parents=True)
            Image.new('RGB', (8, 8)).save(f'pets/{split}/{name}/1.png')
    Path('pets.py').write_text(FOLDERS)
    return 'pets.py'


def test_folders(train, fails, pets):
    for count in (3, 1):
        line = fails(train, pets, '--cfg-options', f'model.head.num_classes={count}')
        assert f'model.head.num_classes is {count}, but {TRAIN} has 2 classes (cat, dog)' in line
    line = fails(train, pets, '--cfg-options', f'{TRAIN}.metainfo.classes="[a,b,c]"')
    assert 'pets/train has 2 folders, each of which is a class, but 3 classes are named' in line
    Path('pets/train/dog/1.png').rename('pets/train/dog/1.webp')
    line = fails(train, pets)
    assert 'pets/train/dog has no image (.bmp, .jpeg, ' in line
    assert 'there are files with .webp; each folder is a class' in line
    Path('pets/train/dog/1.webp').rename('pets/train/dog/1.png')
    Path('pets/val/dog').rename('pets/val/puppy')
    assert f"{TRAIN} has a folder 'dog', and val_dataloader.dataset has none" in fails(train, pets)
    Path('pets/val/puppy').rename('pets/val/dog')
    train([pets, '--work-dir', 'run'])
    assert Path('run/epoch_1.pth').exists()


def test_lists_of_images(train, fails, pets):
    option = ['--cfg-options', f'{TRAIN}.ann_file=list.txt']
    for text, says in (
        ('cat/1.png 0\ndog/1.png 2\n', 'num_classes is 2, but train_dataloader.dataset has 3'),
        ('cat/1.png 0\n', 'num_classes is 2, but train_dataloader.dataset has 1 class (0)'),
        ('cat/1.jpg 0\ndog/1.png 1\n', 'pets/train/cat/1.jpg, does not exist'),
        ('cat/1.png\ndog/1.png\n', "line 1 of pets/list.txt is not 'image label'"),
    ):
        Path('pets/list.txt').write_text(text)
        assert says in fails(train, pets, *option)


def test_names_of_classes(train, fails, pets):
    line = fails(train, pets, '--cfg-options', f'{TRAIN}.metainfo.classes=cat')
    assert "classes is the string 'cat'" in line and "is ('cat',)" in line
    mixed = ['model.train_cfg.augments.type=Mixup', 'model.train_cfg.augments.alpha=0.8']
    line = fails(train, pets, '--cfg-options', *mixed, 'data_preprocessor.num_classes=1000')
    assert 'data_preprocessor.num_classes is 1000, but model.head.num_classes is 2' in line


def test_home_folder(train, pets, monkeypatch):
    Path('home/me').mkdir(parents=True)
    Path('pets').rename('home/me/pets')
    monkeypatch.setenv('HOME', str(Path('home/me').absolute()))
    roots = [f'{split}_dataloader.dataset.data_root=~/pets' for split in ('train', 'val')]
    train([pets, '--work-dir', '~/run', '--cfg-options', *roots])
    assert Path('home/me/run/epoch_1.pth').exists() and not Path('~').exists()


def nuclei(**changes):
    """Arguments of a small detection config, and its files changed."""
    make_nuclei()
    config = tiny_mask_rcnn()
    for split in ('train', 'val'):
        file = Path(f'data/nuclei/annotations/instances_{split}.json')
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return config


def categories(*names):
    return [dict(id=i + 1, name=name) for i, name in enumerate(names)]


def classes(config, names, count=None):
    """Have a detection config name its classes, or not with None."""
    cfg = Config.fromfile(config)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.pop('metainfo')
        if names is not None:
            dataset.metainfo = dict(classes=names)
    for head in (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head):
        head.num_classes = count or len(names)
    cfg.dump(config)


@pytest.mark.parametrize(
    ('names', 'count', 'says'),
    [
        (None, 80, "none of which is among the classes of the data set's type ('person', "),
        (('nucleus',), 2, 'bbox_head.num_classes is 2, but train_dataloader.dataset has 1 class ('),
        (('cell',), 1, "none of which is among the classes metainfo names ('cell')"),
        (('cell', 'nucleus'), 2, "has no category 'cell', which is one of the classes"),
    ],
)
def test_coco_categories(train, fails, names, count, says):
    config = nuclei()
    classes(config, names, count)
    line = fails(train, config)
    assert says in line
    if 'in each data set' in line:
        assert "metainfo=dict(classes=('nucleus',)) in each data set" in line


def test_orders_of_coco_categories(train, test, fails, tmp_path):
    config = nuclei(categories=categories('dirt', 'nucleus', 'dust'))
    classes(config, ('nucleus', 'dirt'))
    line = fails(train, config)
    assert 'another order than the classes' in line
    assert "metainfo=dict(classes=('dirt', 'nucleus'))" in line
    (tmp_path / 'w.pth').touch()
    assert 'another order than the classes' in fails(test, config, 'w.pth')
    # A part of the categories may be chosen.
    classes(config, ('nucleus',))
    Path('data/nuclei/train/train0.jpg').rename('data/nuclei/train/train0.png')
    line = fails(train, config)
    assert 'data/nuclei/train/train0.jpg, does not exist, but there is train0.png' in line


def test_coco_hint(train, fails):
    config = nuclei()
    classes(config, ('nucleus',))
    cfg = Config.fromfile(config)
    cfg.pop('data_hint')
    cfg.train_dataloader.dataset.data_root = 'elsewhere'
    cfg.dump(config)
    line = fails(train, config)
    assert 'elsewhere does not exist' in line and 'cocodataset' not in line


@pytest.mark.parametrize(
    ('split', 'changes', 'says'),
    [
        ('train', None, 'instances_train.json has no annotations'),
        ('train', dict(category_id=7), 'has the category_id 7, which is none of the categories'),
        ('train', dict(image_id='0'), "image_id is '0' in the first one, and ids of images are su"),
        ('train', dict(area=None), "an annotation has no 'area'"),
        ('val', dict(iscrowd=None), "an annotation has no 'iscrowd'"),
        ('val', dict(id=0), 'the id 0, whose detections pycocotools counts as wrong'),
    ],
)
def test_coco_annotations(train, fails, split, changes, says):
    config = nuclei()
    file = Path(f'data/nuclei/annotations/instances_{split}.json')
    content = json.loads(file.read_text())
    changed = [annotation | (changes or {}) for annotation in content['annotations']]
    kept = [{k: v for k, v in one.items() if v is not None} for one in changed]
    file.write_text(json.dumps(content | dict(annotations=kept if changes else [])))
    assert says in fails(train, config)


def test_metrics_have_the_annotations_of_what_is_tested(train, fails):
    config = nuclei()
    file = 'data/nuclei/annotations/instances_train.json'
    line = fails(train, config, '--cfg-options', f'val_evaluator.ann_file={file}')
    assert f'val_evaluator.ann_file is {file}, but val_dataloader.dataset has the' in line
    assert 'annotations data/nuclei/annotations/instances_val.json: set both' in line


@pytest.mark.parametrize(
    ('setting', 'strides'),
    [
        ('rpn_head.anchor_generator.strides', '[8,16,32,64,128]'),
        ('roi_head.bbox_roi_extractor.featmap_strides', '[8,16,32,64]'),
        ('roi_head.mask_roi_extractor.featmap_strides', '[2,4,8,16]'),
    ],
)
def test_strides_of_heads(train, fails, setting, strides):
    line = fails(train, nuclei(), '--cfg-options', f'model.{setting}="{strides}"')
    assert f'model.{setting} are {strides.replace(",", ", ")}, but the maps behind' in line
    assert 'model.neck have the strides [4, 8, 16, 32, 64]: boxes would be' in line


def voc(*names):
    """A VOC folder with objects of these names, and a config of a detector for it."""
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        Path('voc', folder).mkdir(parents=True, exist_ok=True)
    Path('voc/ImageSets/Main/train.txt').write_text('1\n')
    box = '<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>'
    objects = ''.join(f'<object><name>{name}</name>{box}</object>' for name in names)
    Path('voc/Annotations/1.xml').write_text(f'<annotation>{objects}</annotation>')
    Image.new('RGB', (16, 16)).save('voc/JPEGImages/1.jpg')
    cfg = Config.fromfile(nuclei())
    cfg.train_dataloader.dataset = dict(
        type='VOCDataset',
        data_root='voc/',
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        pipeline=[],
    )
    for head in (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head):
        head.num_classes = 20
    for name in ('val_dataloader', 'val_evaluator', 'val_cfg'):
        cfg[name] = None
    cfg.default_hooks.checkpoint.save_best = None
    cfg.dump('voc.py')
    return 'voc.py'


def test_voc_names(train, fails):
    line = fails(train, voc('helmet', 'dog'))
    assert "has the categories 'helmet', 'dog', which are others than the classes" in line
    assert 'none of which' in fails(train, voc('helmet'))
    named = ['--cfg-options', f'{TRAIN}.metainfo.classes="[helmet,dog]"']
    line = fails(train, voc('helmet', 'dog'), *named)
    assert 'bbox_head.num_classes is 20, but train_dataloader.dataset has 2 classes' in line
    line = fails(train, voc('helmet'), '--cfg-options', f'{TRAIN}.metainfo.classes="[cat,dog]"')
    assert "none of which is among the classes metainfo names ('cat', 'dog')" in line
    Path('voc/JPEGImages/1.jpg').rename('voc/JPEGImages/1.png')
    assert 'but there is 1.png: the suffix .jpg is wrong' in fails(train, 'voc.py')


def test_segmentation(train, fails):
    make_camvid()
    config = tiny_upernet('upernet_v2m-s-star')
    dataset = [f'{split}_dataloader.dataset' for split in ('train', 'val')]
    for options, says in (
        ([f'{TRAIN}.img_suffix=.tif'], "no image with img_suffix='.tif'; there are files with .jp"),
        ([f'{TRAIN}.seg_map_suffix=.gif'], '0.gif does not exist, the label map of 0.jpg'),
        (['model.decode_head.num_classes=12'], 'decode_head.num_classes is 12, but train_data'),
        (['model.auxiliary_head.num_classes=3'], 'auxiliary_head.num_classes is 3, but train_d'),
        (
            [
                *(f'{where}.metainfo.classes="[a,b,c]"' for where in dataset),
                *(f'{where}.metainfo.palette="[]"' for where in dataset),
                'model.decode_head.num_classes=3',
                'model.auxiliary_head.num_classes=3',
            ],
            '0.png has the label 3, but there are 3 classes, from 0 to 2, and 255, which is ign',
        ),
    ):
        assert says in fails(train, config, '--cfg-options', *options)
    cfg = Config.fromfile(config)
    cfg.val_dataloader.dataset.pop('metainfo')
    cfg.dump(config)
    line = fails(train, config)
    assert 'val_dataloader.dataset: a BaseSegDataset has no classes of its own' in line
    map_path = Path('data/camvid/ann_dir/train/0.png')
    Image.fromarray(np.zeros((48, 80, 3), np.uint8)).save(map_path)
    assert '0.png has 3 channels: a label map has one' in fails(train, config)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (('mode=slides',), "model.test_cfg.mode must be 'slide' or 'whole', but is 'slides'"),
        (('mod=slide',), "model.test_cfg has no setting 'mod'; did you mean 'mode'?"),
        (('mode=slide',), "crop_size must be (height, width) for mode='slide', but is None"),
        (('mode=slide', 'crop_size=32', 'stride=16'), 'but is 32'),
        (('mode=slide', 'crop_size="(32,32)"', 'stride="(32,48)"'), 'pixels between the windows'),
    ],
)
def test_windows(train, fails, options, says):
    make_camvid()
    config = tiny_upernet('upernet_v2m-s-star')
    options = [f'model.test_cfg.{option}' for option in options]
    assert says in fails(train, config, '--cfg-options', *options)


def test_labels_are_reduced_in_all_data_sets_or_none(train, fails):
    make_camvid()
    config = tiny_upernet('upernet_v2m-s-star')
    line = fails(train, config, '--cfg-options', f'{TRAIN}.reduce_zero_label=True')
    assert f'{TRAIN} has reduce_zero_label=True, but val_dataloader.dataset has False' in line
