"""The batched preprocessing gives what mmpretrain's gives, to the bit."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample, MultiTaskDataSample

from mmv2m.datasets import BatchedClsDataPreprocessor

SETTINGS = {
    'plain': {},
    'normalised': dict(mean=[120.0, 110.0, 100.0], std=[58.0, 57.0, 56.0], to_rgb=True),
    'padded': dict(pad_size_divisor=7, pad_value=3, num_classes=5),
    'one-hot': dict(to_onehot=True, num_classes=5),
    'mixup': dict(num_classes=5, batch_augments=dict(augments=dict(type='Mixup', alpha=0.8))),
    'cutmix': dict(num_classes=5, batch_augments=dict(augments=dict(type='CutMix', alpha=1.0))),
    'resizemix': dict(
        num_classes=5, batch_augments=dict(augments=dict(type='ResizeMix', alpha=1.0))
    ),
    'either or none': dict(
        mean=[120.0, 110.0, 100.0],
        std=[58.0, 57.0, 56.0],
        num_classes=5,
        batch_augments=dict(
            augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)],
            probs=[0.4, 0.3],
        ),
    ),
}


def images(count=6, sizes=None):
    generator = torch.Generator().manual_seed(1)
    make = [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        for size in sizes or [(16, 20)] * count
    ]
    return make if sizes else torch.stack(make)


def labelled(*labels, **known):
    return [DataSample(metainfo=known).set_gt_label(label) for label in labels]


def both(settings, data, training):
    """What mmpretrain's and ours make of a batch that begins with the same random numbers."""
    found = []
    for kind in (ClsDataPreprocessor, BatchedClsDataPreprocessor):
        np.random.seed(0)
        torch.manual_seed(0)
        found.append(kind(**deepcopy(settings))(deepcopy(data), training))
    return found


def assert_equal(stock, ours):
    assert ours.keys() == stock.keys()
    assert ours['inputs'].dtype == stock['inputs'].dtype
    assert torch.equal(ours['inputs'], stock['inputs'])
    if stock['data_samples'] is None:
        assert ours['data_samples'] is None
        return
    for sample, other in zip(ours['data_samples'], stock['data_samples'], strict=True):
        assert sorted(sample.all_keys()) == sorted(other.all_keys())
        for key, value in sample.items():
            expected = other.get(key)
            assert value.dtype == expected.dtype and torch.equal(value, expected), key
        assert sample.metainfo == other.metainfo


@pytest.mark.parametrize('training', [True, False], ids=['training', 'test'])
@pytest.mark.parametrize('settings', SETTINGS.values(), ids=SETTINGS)
def test_it_is_mmpretrains(settings, training):
    for _ in range(3):
        data = dict(inputs=images(), data_samples=labelled(0, 3, 1, 4, 4, 2))
        assert_equal(*both(settings, data, training))


def test_images_of_several_sizes():
    data = dict(inputs=images(sizes=[(8, 9), (12, 7), (8, 8)]), data_samples=labelled(0, 3, 1))
    assert_equal(*both(SETTINGS['mixup'], data, True))


@pytest.mark.parametrize(
    'samples',
    [
        None,
        [DataSample() for _ in range(3)],
        labelled([0, 2], [1], [3, 4, 0]),
        [DataSample().set_gt_score(torch.eye(5)[i]) for i in range(3)],
        [DataSample().set_gt_label(i).set_gt_score(torch.eye(5)[i]) for i in range(3)],
    ],
    ids=['no samples', 'no labels', 'several labels', 'scores', 'labels and scores'],
)
@pytest.mark.parametrize('name', ['plain', 'one-hot', 'mixup'])
def test_what_has_not_one_label_an_image(samples, name):
    data = dict(inputs=images(3))
    if samples is not None:
        data['data_samples'] = samples
    assert_equal(*both(SETTINGS[name], data, True))


def test_the_number_of_classes_that_the_samples_know():
    data = dict(inputs=images(3), data_samples=labelled(0, 3, 1, num_classes=5))
    for settings in (dict(to_onehot=True), SETTINGS['mixup']):
        assert_equal(*both(settings, data, True))


def test_several_tasks():
    samples = [MultiTaskDataSample() for _ in range(3)]
    for i, sample in enumerate(samples):
        sample.set_field(DataSample().set_gt_label(i), 'task')
    stock, ours = both({}, dict(inputs=images(3), data_samples=samples), True)
    for sample, other in zip(ours['data_samples'], stock['data_samples'], strict=True):
        assert torch.equal(sample.task.gt_label, other.task.gt_label)


def test_no_number_of_classes():
    preprocessor = BatchedClsDataPreprocessor(to_onehot=True)
    data = dict(inputs=images(1), data_samples=[DataSample().set_gt_label(0)])
    with pytest.raises(AssertionError, match='num_classes'):
        preprocessor(data, True)
