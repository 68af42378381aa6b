import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from mmv2m.datasets import Digits


@pytest.fixture(scope='module')
def splits():
    return {split: Digits(split) for split in ('train', 'test')}


def _images(dataset):
    return [dataset[i]['img'].tobytes() for i in range(len(dataset))]


def test_sizes_and_classes(splits):
    assert {name: len(split) for name, split in splits.items()} == {'train': 1437, 'test': 360}
    assert splits['test'].metainfo['classes'] == tuple('0123456789')


def test_samples_are_bright_ink_on_black(splits):
    sample = splits['train'][0]
    assert sample['img'].dtype == np.uint8 and sample['img'].shape == (8, 8, 3)
    assert (sample['img'] == sample['img'][..., :1]).all()
    everything = np.stack([splits['train'][i]['img'] for i in range(1437)])
    assert everything.min() == 0 and everything.max() == 255
    assert everything[:, 0, 0].mean() < 10 < everything.mean()


def test_config_normalises_with_the_training_images_statistics(splits):
    base = Path(__file__).resolve().parents[2] / 'configs/_base_/datasets/digits.py'
    preprocessor = Config.fromfile(base).data_preprocessor
    everything = np.stack([splits['train'][i]['img'] for i in range(1437)])
    assert preprocessor.mean == pytest.approx([everything.mean()] * 3, abs=0.1)
    assert preprocessor.std == pytest.approx([everything.std()] * 3, abs=0.1)


def test_every_image_is_in_one_split_with_its_own_label(splits):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    expected = sorted(
        (p.repeat(3).tobytes(), int(label)) for p, label in zip(pixels, labels, strict=True)
    )
    got = sorted(
        (image, split[i]['gt_label'])
        for split in splits.values()
        for i, image in enumerate(_images(split))
    )
    assert got == expected


def test_the_held_out_fifth_is_stratified(splits):
    shares = [
        np.bincount([split[i]['gt_label'] for i in range(len(split))], minlength=10)
        for split in (splits['test'], splits['train'])
    ]
    assert np.allclose(shares[0] / (shares[0] + shares[1]), 0.2, atol=0.01)


def test_the_split_is_the_same_every_time(splits):
    state = np.random.get_state()
    np.random.seed(7)
    assert _images(Digits('test')) == _images(splits['test'])
    np.random.set_state(state)


def test_unknown_split():
    with pytest.raises(ValueError, match="one of train, test, but got 'val'"):
        Digits('val')


def test_missing_scikit_learn(monkeypatch):
    for name in ('sklearn', 'sklearn.datasets'):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        Digits('train')


def test_mmpretrain_pipeline_packs_the_samples():
    dataset = Digits('test', pipeline=[dict(type='mmpretrain.PackInputs')])
    packed = dataset[0]
    assert packed['inputs'].shape == (3, 8, 8)
    assert packed['data_samples'].gt_label.item() in range(10)
