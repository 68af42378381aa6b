"""mmpretrain's preprocessing of a batch in a few calls instead of some for every image."""

from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample
from torch import Tensor

from mmv2m.registry import MODELS

__all__ = ['BatchedClsDataPreprocessor']


@MODELS.register_module()
class BatchedClsDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor``, faster where every image has exactly one label.

    It takes the same settings and gives the same results, to the bit. mmpretrain makes the one-hot
    scores of a batch by several launches for each image; here they are made by one for all of them.
    Batches with several labels an image, with scores of their own, or of several tasks go through
    mmpretrain's code.

    Images and labels are brought to the device without waiting for it, so that the host can prepare
    a step while the GPU still computes the one before. This needs the data loader's ``pin_memory``;
    without it PyTorch waits.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._non_blocking = True

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise, pad and, in training, mix a batch; see mmpretrain's class.

        Args:
            data: ``inputs``, (B, 3, H, W) or a list of (3, H, W), and perhaps ``data_samples``.
            training: Whether to mix images, where ``batch_augments`` are set.

        Returns:
            ``inputs``, (B, 3, H, W) in float32, and ``data_samples`` with labels and scores on the
            device: views of one tensor of the batch each.
        """
        samples: Any = data.get('data_samples')
        labels = _single_labels(samples)
        if labels is None:
            return super().forward(data, training)
        inputs = super().forward(dict(inputs=data['inputs']), training)['inputs']
        labels = labels.to(self.device, non_blocking=True)
        for sample, label in zip(samples, labels.split(1), strict=True):
            sample.set_field(label, 'gt_label')
        if self.to_onehot:
            scores = self._scores(labels, samples[0])
            if training and self.batch_augments is not None:
                inputs, scores = self.batch_augments(inputs, scores)
            for sample, score in zip(samples, scores.unbind(), strict=True):
                _set_score(sample, score, scores.size(1))
        return dict(inputs=inputs, data_samples=samples)

    def _scores(self, labels: Tensor, sample: DataSample) -> Tensor:
        """(B,) labels as (B, classes) one-hot scores."""
        classes = self.num_classes or sample.get('num_classes')
        assert classes is not None, 'one-hot labels need num_classes in data_preprocessor'
        return F.one_hot(labels, classes)


def _set_score(sample: DataSample, score: Tensor, classes: int) -> None:
    if 'num_classes' in sample:
        sample.set_gt_score(score)  # which compares the numbers of classes
    else:
        sample.set_field(score, 'gt_score')
        sample.set_field(classes, 'num_classes', field_type='metainfo')


def _single_labels(samples: Any) -> Tensor | None:
    """The (B,) labels of samples that have one each, and no scores; else None."""
    if not samples or not all(type(s) is DataSample and 'gt_score' not in s for s in samples):
        return None
    labels = [sample.get('gt_label') for sample in samples]
    if any(label is None or label.numel() != 1 for label in labels):
        return None
    return torch.cat(labels)
