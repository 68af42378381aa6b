"""A folder of made-up photographs, laid out like ImageNet, to load and decode."""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

__all__ = ['make_imagenet']

HEIGHT, WIDTH = 375, 500
QUALITY = 90
DETAILS = ((4, 60), (8, 40), (16, 30), (40, 24), (100, 30), (250, 40))
"""Number of blobs along an image's width, and their contrast. In photographs, too, smaller details
have less contrast. A file then takes about 110 KB, which is the mean of ImageNet's files."""


def make_imagenet(folder: Path, distinct: int, images: int, classes: int = 4) -> None:
    """Write photographs to train/CLASS/ and a list of them, as mmpretrain's ``ImageNet`` reads it.

    Args:
        folder: The folder to write to.
        distinct: Number of files to make.
        images: Number of lines of the list, which repeats the files.
        classes: Number of classes that the files belong to.
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
        # Most of a detail changes the brightness, and a part of it the colour.
        blobs = rng.normal(size=(*size, 1)) + 0.4 * rng.normal(size=(*size, 3))
        image += contrast * cv2.resize(blobs, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    pixels = image.clip(0, 255).astype(np.uint8)
    cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
