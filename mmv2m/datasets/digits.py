"""Handwritten digits that need no download."""

import numpy as np
from mmengine.dataset import BaseDataset

from mmv2m.registry import DATASETS

__all__ = ['Digits']

SPLITS = ('train', 'test')
SPLIT_SEED = 0
"""The seed of the split. It is fixed, so that a test accuracy means the same images everywhere."""


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 scanned handwritten digits, 8 x 8 pixels, that scikit-learn brings along.

    A fifth of each class is held out for testing: 1,437 images to train with, 360 to test with.
    Each sample has ``img``, a uint8 array (8, 8, 3) of three equal channels with bright ink on
    black, and ``gt_label``, from 0 to 9.

    Args:
        split: ``'train'`` or ``'test'``. Defaults to ``'train'``.
        **kwargs: Other arguments of :class:`mmengine.dataset.BaseDataset`, such as ``pipeline``.

    Raises:
        ValueError: If there is no such split.
        ImportError: If scikit-learn is missing. This is found when the images are loaded.
    """

    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(self, split: str = 'train', **kwargs: object) -> None:
        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}, but got {split!r}')
        self.split = split
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Take this split's images and labels out of scikit-learn.

        Returns:
            A dict with ``img`` and ``gt_label`` for each image.

        Raises:
            ImportError: If scikit-learn is missing.
        """
        images, labels = _load()
        return [dict(img=images[i], gt_label=int(labels[i])) for i in _indices(self.split, labels)]


def _load() -> tuple[np.ndarray, np.ndarray]:
    """All images, (1797, 8, 8, 3) uint8, and their labels, (1797,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'Digits are the images of scikit-learn, which is missing: pip install scikit-learn'
        ) from error
    images, labels = load_digits(return_X_y=True)
    images = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return images.repeat(3, axis=-1), labels


def _indices(split: str, labels: np.ndarray) -> np.ndarray:
    """Which images belong to a split, in their original order."""
    from sklearn.model_selection import train_test_split

    parts = train_test_split(
        np.arange(len(labels)), test_size=0.2, random_state=SPLIT_SEED, stratify=labels
    )
    return np.sort(parts[SPLITS.index(split)])
