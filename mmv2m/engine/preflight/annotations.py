"""Checks of the annotations and images of data sets, as far as their files say it quickly."""

import json
import mmap
import os.path as osp
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .coco_entries import check_entries
from .files import is_remote

__all__ = ['check_coco', 'check_voc', 'kind_of']

MANY = 1000
"""Files of annotations that are read at most; a data set reads them all again."""


def kind_of(found: Any) -> str | None:
    """The class that a data set's class descends from and loads its annotations like, by name.

    Args:
        found: The data set's class.

    Returns:
        ``'CocoDataset'``, ``'XMLDataset'``, ``'BaseSegDataset'``, ``'CustomDataset'`` (of
        mmpretrain) or None.
    """
    for base in getattr(found, '__mro__', ()):
        known = ('CocoDataset', 'XMLDataset', 'BaseSegDataset', 'CustomDataset')
        if base.__name__ in known and base.__module__.split('.')[0].startswith('mm'):
            same = getattr(found, 'load_data_list', None) is getattr(base, 'load_data_list', None)
            return base.__name__ if same else None
    return None


def check_coco(where: str, ann_file: str, images: str, classes: Sequence[str], named: bool) -> None:
    """Check a COCO file's categories against the classes, its images and its annotations.

    mmdet numbers the categories in the file's order, leaving out those that are no class. So each
    class has to be a category, and in that order; otherwise labels get the names of others.

    Args:
        where: Where the data set stands in the config.
        ann_file: The file.
        images: The folder of the images.
        classes: The classes' names.
        named: Whether the config names them.

    Raises:
        UserError: If they do not fit, the first image is missing, or an annotation is wrong.
    """
    names, image = _read_coco(ann_file)
    if names is not None:
        _compare_categories(f'{where}: {ann_file}', names, classes, named)
    if image is not None and not is_remote(image):
        _check_image(where, osp.join(images, image), 'data_prefix.img')
    check_entries(where, ann_file)


def check_voc(
    where: str, ann_file: str, dataset: dict, root: str, classes: Sequence[str], named: bool
) -> None:
    """Check a VOC data set's object names against the classes, and that its images are there.

    Args:
        where: Where the data set stands in the config.
        ann_file: The file of the images' names.
        dataset: The data set's settings.
        root: Its ``data_prefix.sub_data_root``, joined.
        classes: The classes' names.
        named: Whether the config names them.

    Raises:
        UserError: If names are no classes, or the first image or annotation is missing.
    """
    ids = [line.strip() for line in Path(ann_file).read_text().splitlines() if line.strip()]
    if not ids:
        raise UserError(f'{where}: {ann_file} names no image')
    image = osp.join(root, dataset.get('img_subdir', 'JPEGImages'), f'{ids[0]}.jpg')
    _check_image(where, image, 'data_prefix.sub_data_root')
    folder = osp.join(root, dataset.get('ann_subdir', 'Annotations'))
    names: dict[str, None] = {}
    for name in ids[:MANY]:
        file = osp.join(folder, f'{name}.xml')
        if not osp.exists(file):
            raise UserError(f'{where}: {file} does not exist, but {ann_file} names it')
        names |= dict.fromkeys(_objects(file))
    unknown = [name for name in names if name not in classes]
    if names and unknown and (not named or len(unknown) == len(names)):
        _refuse_categories(f'{where}: {folder}', list(names), unknown, classes, named)


def _objects(file: str) -> Iterator[str]:
    try:
        root = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f'{file} is no XML file: {error}') from error
    for node in root.iter('object'):
        yield node.findtext('name') or ''


def _read_coco(path: str) -> tuple[list[str] | None, str | None]:
    """The names of a file's categories and its first image; what is not found is None.

    Files of some hundred megabytes are not parsed for that.
    """
    with open(path, 'rb') as file:
        if osp.getsize(path) == 0:
            raise UserError(f'{path} is empty')
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            names = next(_categories(text), None)
            image = re.search(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")', text)
            return names, json.loads(image[1]) if image else None


def _categories(text: mmap.mmap) -> Iterator[list[str]]:
    for key in re.finditer(rb'"categories"\s*:\s*(?=\[)', text):
        size = 1 << 16
        while True:
            part = text[key.end() : key.end() + size]
            try:
                found, _ = json.JSONDecoder().raw_decode(part.decode(errors='replace'))
            except ValueError:
                if key.end() + size >= len(text):
                    break
                size *= 16
                continue
            if all(isinstance(item, dict) and 'name' in item for item in found):
                yield [item['name'] for item in found]
            break


def _compare_categories(
    what: str, names: Sequence[str], classes: Sequence[str], named: bool
) -> None:
    used = [name for name in names if name in classes]
    if used == list(classes):
        return
    lacking = [name for name in classes if name not in names]
    if not used or (lacking and not named):
        unknown = [name for name in names if name not in classes]
        _refuse_categories(what, names, unknown or names, classes, named)
    if lacking:
        raise UserError(
            f'{what} has no category {lacking[0]!r}, which is one of the classes: labels are '
            f"numbered by the file's categories, so name no others: {_metainfo(names)}"
        )
    raise UserError(
        f"{what} has the categories in another order than the classes: labels follow the file's, "
        f'so that names would be mixed up: {_metainfo(used)}'
    )


def _refuse_categories(
    what: str, names: Sequence[str], unknown: Sequence[str], classes: Sequence[str], named: bool
) -> None:
    if len(unknown) == len(names):
        problem = f'has the categories {_shown(names)}, none of which is among the classes'
    else:
        problem = f'has the categories {_shown(names)}, which are others than the classes'
    source = 'metainfo names' if named else "of the data set's type"
    raise UserError(
        f'{what} {problem} {source} ({_shown(classes)}): {_metainfo(names)}, and num_classes='
        f'{len(names)} in the heads'
    )


def _metainfo(names: Sequence[str]) -> str:
    listed = ', '.join(map(repr, names[:20])) + (', ...' if len(names) > 20 else '')
    comma = ',' if len(names) == 1 else ''
    return f'set metainfo=dict(classes=({listed}{comma})) in each data set'


def _shown(names: Sequence[str]) -> str:
    return ', '.join(map(repr, names[:4])) + (', ...' if len(names) > 4 else '')


def _check_image(where: str, path: str, setting: str) -> None:
    if osp.exists(path):
        return
    stem, suffix = osp.splitext(path)
    folder, name = osp.split(stem)
    others = sorted(Path(folder).glob(f'{name}.*')) if osp.isdir(folder) else []
    there = f', but there is {others[0].name}: the suffix {suffix} is wrong' if others else ''
    raise UserError(
        f'{where}: its first image, {osp.abspath(path)}, does not exist'
        + (there or f': {setting} is wrong, or the file names images elsewhere')
    )
