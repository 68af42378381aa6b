"""Check the single annotations of a COCO file."""

import json
import os.path as osp
from pathlib import Path

from ..errors import UserError

__all__ = ['check_entries']

LARGEST = 64 << 20
"""Bytes of a file that is parsed for this; a data set parses it again."""

LOADED = ('id', 'image_id', 'category_id', 'bbox', 'area')
EVALUATED = (*LOADED, 'iscrowd')


def check_entries(where: str, ann_file: str) -> None:
    """Check that annotations belong to images and categories, and have what mmdet reads.

    mmdet leaves out annotations of unknown images and categories without a word, and pycocotools
    counts a detection of the annotation 0 as wrong.

    Args:
        where: Where the data set stands in the config.
        ann_file: The file. A large one, or one of an unknown layout, is left alone.

    Raises:
        UserError: With the first mistake.
    """
    if osp.getsize(ann_file) > LARGEST:
        return
    try:
        content = json.loads(Path(ann_file).read_text())
        images = {image['id'] for image in content['images']}
        categories = {category['id'] for category in content['categories']}
    except (KeyError, TypeError, ValueError):
        return
    annotations, training = content.get('annotations') or [], where.startswith('train')
    if annotations and 'segments_info' in annotations[0]:  # of a panoptic data set
        return
    what = f'{where}: {ann_file}'
    if not images or (training and not annotations):
        raise UserError(f'{what} has no {"annotations" if images else "images"}')
    for annotation in annotations:
        _check_entry(what, annotation, categories, training)
    if annotations and not any(annotation['image_id'] in images for annotation in annotations):
        raise UserError(
            f'{what}: no annotation belongs to an image: image_id is '
            f'{annotations[0]["image_id"]!r} in the first one, and ids of images are such as '
            f'{next(iter(images))!r}'
        )


def _check_entry(what: str, annotation: dict, categories: set, training: bool) -> None:
    for key in LOADED if training else EVALUATED:
        if key not in annotation:
            raise UserError(f'{what}: an annotation has no {key!r}: {str(annotation)[:100]}')
    if annotation['category_id'] not in categories:
        raise UserError(
            f'{what}: the annotation {annotation["id"]!r} has the category_id '
            f'{annotation["category_id"]!r}, which is none of the categories'
        )
    if annotation['id'] == 0 and not training:
        raise UserError(
            f'{what}: an annotation has the id 0, whose detections pycocotools counts as wrong: '
            'number annotations from 1'
        )
