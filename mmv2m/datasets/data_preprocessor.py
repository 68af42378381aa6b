"""mmpretrain's preprocessing of a batch in a few calls instead of some for every image."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.models.utils.batch_augments import CutMix, Mixup, ResizeMix
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmv2m.registry import MODELS

__all__ = ['BatchedClsDataPreprocessor']


@MODELS.register_module()
class BatchedClsDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor``, faster where every image has exactly one label.

    It takes the same settings and gives the same results, to the bit. mmpretrain makes the one-hot
    scores of a batch by several launches for each image; here they are made by one for all of them.
    Batches with several labels an image, with scores of their own, or of several tasks go through
    mmpretrain's code.

    Images, labels and the order in which images are mixed are brought to the device without waiting
    for it, so that the host can prepare a step while the GPU still computes the one before. For the
    images this needs the data loader's ``pin_memory``; without it PyTorch waits.
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
        labels = _bring(labels, self.device)
        for sample, label in zip(samples, labels.split(1), strict=True):
            sample.set_field(label, 'gt_label')
        if self.to_onehot:
            scores = self._scores(labels, samples[0])
            if training and self.batch_augments is not None:
                inputs, scores = self._mix(inputs, scores)
            for sample, score in zip(samples, scores.unbind(), strict=True):
                _set_score(sample, score, scores.size(1))
        return dict(inputs=inputs, data_samples=samples)

    def _mix(self, inputs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        augments = self.batch_augments
        known = all(type(augment) in MIXING for augment in augments.augments)
        if not known or self.device.type != 'cuda':
            return augments(inputs, scores)
        with _OrderOnDevice(self.device):
            return augments(inputs, scores)

    def _scores(self, labels: Tensor, sample: DataSample) -> Tensor:
        """(B,) labels as (B, classes) one-hot scores."""
        classes = self.num_classes or sample.get('num_classes')
        assert classes is not None, 'one-hot labels need num_classes in data_preprocessor'
        return F.one_hot(labels, classes)


MIXING = (Mixup, CutMix, ResizeMix, type(None))
"""Augmentations that do nothing with what ``torch.randperm`` gives but index images by it."""


class _OrderOnDevice(TorchFunctionMode):
    """Brings the order that ``torch.randperm`` draws to a GPU, where indexing would wait for it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        return _bring(result, self.device) if func is torch.randperm else result


def _bring(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the host does not wait until it is there."""
    if device.type == 'cuda' and not x.is_cuda:
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


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
