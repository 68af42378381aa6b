"""Checks of data sets that are folders of images: those of classes, and those with label maps."""

import os
import os.path as osp
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError

__all__ = ['check_folders', 'check_label_maps', 'check_listed']

SAMPLES = 8
"""Label maps that are looked at."""


def check_folders(where: str, root: str, extensions: Sequence[str]) -> list[str]:
    """Check the folders of a classification data set, one a class.

    Args:
        where: Where the data set stands in the config.
        root: The folder of the folders.
        extensions: Suffixes of images.

    Returns:
        The folders' names in the order of their labels.

    Raises:
        UserError: If there are none, or one has no image.
    """
    names = sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith('.'))
    if not names:
        raise UserError(f'{where}: {root} has no folders, but each class needs one with its images')
    suffixes = tuple(extension.lower() for extension in extensions)
    empty = [n for n in names if not any(f.lower().endswith(suffixes) for f in _files(root, n))]
    if empty:
        raise UserError(
            f'{where}: {osp.join(root, empty[0])} has no image ({", ".join(sorted(suffixes))})'
            f'{_there(osp.join(root, empty[0]))}; each folder is a class'
        )
    return names


def check_listed(where: str, ann_file: str, root: str) -> list[str]:
    """Check a classification data set whose file has a line ``image label`` for each image.

    Args:
        where: Where the data set stands in the config.
        ann_file: The file.
        root: The folder of the images.

    Returns:
        The labels that there are, in their order.

    Raises:
        UserError: If a line has no label, or the first image is missing.
    """
    labels: set[int] = set()
    with open(ann_file) as file:
        lines = [line.strip().rsplit(' ', 1) for line in file]
    for i, line in enumerate(lines, 1):
        if len(line) != 2 or not line[1].isdecimal():
            raise UserError(f"{where}: line {i} of {ann_file} is not 'image label': {line[0]!r}")
        labels.add(int(line[1]))
    if not lines:
        raise UserError(f'{where}: {ann_file} names no image')
    first = osp.join(root, lines[0][0])
    if not osp.exists(first):
        raise UserError(
            f'{where}: its first image, {osp.abspath(first)}, does not exist: data_prefix or the '
            f'names in {ann_file} are wrong'
        )
    return [str(label) for label in range(max(labels) + 1)]


def check_label_maps(
    where: str, dataset: dict, folders: tuple[str, str | None], classes: Sequence[str] | None
) -> None:
    """Check a segmentation data set's pairs of images and label maps, and labels in some of them.

    Args:
        where: Where the data set stands in the config.
        dataset: Its settings, with the defaults of its class, and in ``ignored`` the labels that
            are.
        folders: Of the images and of the label maps.
        classes: The classes' names; None if there are none.

    Raises:
        UserError: If there are no images, label maps are missing, or labels are no classes.
    """
    images, maps = folders
    suffix, map_suffix = dataset['img_suffix'], dataset['seg_map_suffix']
    names = _stems(where, dataset, images, suffix)
    if not names:
        raise UserError(
            f'{where}: {osp.abspath(images)} has no image with img_suffix={suffix!r}'
            f'{_there(images)}'
        )
    if not osp.exists(osp.join(images, names[0] + suffix)):
        raise UserError(
            f'{where}: its first image, {osp.join(images, names[0] + suffix)}, does not exist: '
            f'img_suffix or data_prefix.img_path is wrong{_there(images)}'
        )
    if maps is None:
        return
    for name in names[:: max(1, len(names) // SAMPLES)][:SAMPLES]:
        path = osp.join(maps, name + map_suffix)
        if not osp.exists(path):
            raise UserError(
                f'{where}: {path} does not exist, the label map of {name + suffix}: seg_map_suffix '
                f'or data_prefix.seg_map_path is wrong{_there(maps)}'
            )
        if classes is not None:
            _check_labels(where, path, dataset, classes)


def _stems(where: str, dataset: dict, images: str, suffix: str) -> list[str]:
    """Names of the images without their suffix."""
    ann_file = dataset.get('ann_file')
    if not ann_file:
        found = (name for name in _files(images, '') if name.endswith(suffix))
        return sorted(name.removesuffix(suffix) for name in found)
    with open(ann_file) as file:
        return [line.strip() for line in file if line.strip()]


def _check_labels(where: str, path: str, dataset: dict, classes: Sequence[str]) -> None:
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except Exception:
        return  # what Pillow cannot read is for the data set's own reader
    if labels.ndim != 2:
        raise UserError(
            f'{where}: {path} has {labels.shape[-1]} channels: a label map has one, in which each '
            "pixel is the number of its class; a picture's colours have to be translated"
        )
    values = np.unique(labels).astype(int)
    if dataset['reduce_zero_label']:
        values = np.where((values == 0) | (values == 255), 255, values - 1)
    wrong = values[(values >= len(classes)) & ~np.isin(values, dataset['ignored'])]
    if wrong.size:
        reduced = ' (after reduce_zero_label)' if dataset['reduce_zero_label'] else ''
        raise UserError(
            f'{where}: {path} has the label {wrong[0]}{reduced}, but there are {len(classes)} '
            f'classes, from 0 to {len(classes) - 1}, and {dataset["ignored"][0]}, which is ignored'
        )


def _files(root: str, folder: str) -> Iterator[str]:
    """Files below ``root/folder`` as mmengine lists them, by their path below it."""
    top = osp.join(root, folder)
    for place, folders, files in os.walk(top, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith('.')]
        for name in files:
            if not name.startswith('.'):
                yield osp.relpath(osp.join(place, name), top)


def _there(folder: str) -> str:
    """Suffixes of the first files of a folder."""
    some: list[Any] = [name for name, _ in zip(_files(folder, ''), range(1000), strict=False)]
    suffixes = sorted({osp.splitext(name)[1] for name in some if osp.splitext(name)[1]})
    return f'; there are files with {", ".join(suffixes)}' if suffixes else '; it has no files'
