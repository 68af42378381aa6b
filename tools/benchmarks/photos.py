"""A folder of made-up photographs as ImageNet's, to load and decode."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

__all__ = ['make_imagenet']

HEIGHT, WIDTH = 375, 500
QUALITY = 90
DETAILS = ((4, 60), (8, 40), (16, 30), (40, 24), (100, 30), (250, 40))
"""Blobs along an image's width, and how much brighter or darker they are: in photographs too,
details have less contrast the smaller they are. A file then takes about 110 KB, ImageNet's mean."""


def make_imagenet(folder: Path, distinct: int, images: int, classes: int = 4) -> None:
    """Photographs in train/CLASS/ and a list of them, as mmpretrain's ``ImageNet`` reads it.

    Args:
        folder: Where to make them.
        distinct: Files to make.
        images: Lines of the list, in which the files come again and again.
        classes: That the files belong to.
    """
    names = [f'class{i % classes}/{i}.JPEG' for i in range(distinct)]
    for i in range(classes):
        (folder / 'train' / f'class{i}').mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write, folder / 'train'), range(distinct), names))
    (folder / 'meta').mkdir()
    lines = (f'{names[i % distinct]} {i % distinct % classes}\n' for i in range(images))
    (folder / 'meta' / 'train.txt').write_text(''.join(lines))


def _write(folder: Path, seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((HEIGHT, WIDTH, 3), 120, np.float32)
    for across, contrast in DETAILS:
        size = (across * HEIGHT // WIDTH + 2, across + 2)
        # Most of a detail is brightness, some is colour.
        blobs = rng.normal(size=(*size, 1)) + 0.4 * rng.normal(size=(*size, 3))
        image += contrast * cv2.resize(blobs, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pixels = image.clip(0, 255).astype(np.uint8)
    cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
