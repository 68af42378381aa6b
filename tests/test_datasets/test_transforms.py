"""The crop that PyTorch resizes is mmpretrain's that Pillow resizes, but for rounding."""

import random

import numpy as np
import pytest
import torch
from mmpretrain.datasets.transforms import (
    PackInputs,
    RandAugment,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
)

from mmv2m.datasets import TorchRandomResizedCrop

SETTINGS = dict(scale=(56, 48), interpolation='bicubic')


def photo(height, width):
    """Smooth blobs and a little noise, as in photographs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width][..., None] / 40
    waves = np.sin(x + rng.uniform(0, 6, 3)) + np.sin(y * rng.uniform(0.5, 2, 3))
    return np.clip(120 + 50 * waves + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def crops(kind, img, count=20, **settings):
    transform = kind(**settings)
    np.random.seed(0)
    return [transform(dict(img=img.copy())) for _ in range(count)]


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [(375, 500), (64, 50), (300, 40), (30, 400)])
def test_it_is_pillows_crop(interpolation, size):
    settings = dict(SETTINGS, interpolation=interpolation)
    img = photo(*size)
    ours = crops(TorchRandomResizedCrop, img, **settings)
    stock = crops(RandomResizedCrop, img, backend='pillow', **settings)
    differences = []
    for mine, other in zip(ours, stock, strict=True):
        assert mine.keys() == other.keys() and mine['img_shape'] == other['img_shape']
        assert mine['img'].dtype == np.uint8
        differences.append(np.abs(mine['img'].astype(int) - other['img']))
    differences = np.stack(differences)
    assert differences.max() <= 2 and (differences > 0).mean() < 0.02
    # Were crops or filters others, this would show it.
    opencv = crops(RandomResizedCrop, img, backend='cv2', **settings)
    assert (
        np.mean(
            [np.abs(a['img'].astype(int) - b['img']) for a, b in zip(opencv, stock, strict=True)]
        )
        > 0.1
    )


def test_the_rest_of_a_pipeline():
    # What comes out is not contiguous; later transforms take it all the same.
    steps = [
        RandomFlip(prob=1.0),
        RandAugment('timm_increasing', 2, 9, magnitude_std=0.5),
        RandomErasing(erase_prob=1.0),
        PackInputs(),
    ]
    sample = crops(TorchRandomResizedCrop, photo(64, 50), 1, **SETTINGS)[0]
    same = dict(sample, img=np.ascontiguousarray(sample['img']))
    packed = []
    for results in (sample, same):
        np.random.seed(0)
        random.seed(0)
        for step in steps:
            results = step(results)
        packed.append(results['inputs'])
    assert packed[0].shape == (3, 56, 48) and packed[0].is_contiguous()
    assert torch.equal(*packed)


def test_a_grey_image():
    img = photo(64, 50)[..., 0].copy()
    (ours,), (stock,) = (
        crops(TorchRandomResizedCrop, img, 1, **SETTINGS),
        crops(RandomResizedCrop, img, 1, backend='pillow', **SETTINGS),
    )
    assert ours['img'].shape == stock['img'].shape == (56, 48)
    assert np.abs(ours['img'].astype(int) - stock['img']).max() <= 2


def test_mistakes():
    with pytest.raises(ValueError, match='leave backend out'):
        TorchRandomResizedCrop(32, backend='cv2')
    with pytest.raises(ValueError, match="'lanczos'"):
        TorchRandomResizedCrop(32, interpolation='lanczos')
    with pytest.raises(TypeError, match='uint8, not float32'):
        TorchRandomResizedCrop(32)(dict(img=np.zeros((40, 40, 3), np.float32)))
