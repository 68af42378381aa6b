"""mmpretrain's preprocessing of a batch, in a few calls for the whole batch."""

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
    scores of a batch by several launches for each image, and this class by one launch for all of
    them. Batches with several labels for an image, with scores of their own, or of several tasks go
    through mmpretrain's code.

    Images, labels and the order in which images are mixed go to the device without waiting for it,
    so that the host can prepare a step while the GPU still computes the one before. For the images
    this needs the data loader's ``pin_memory``. Without it PyTorch waits.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._non_blocking = True

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Normalise, pad and, in training, mix a batch, as mmpretrain's class does.

        Args:
            data: ``inputs``, (B, 3, H, W) or a list of (3, H, W), and optionally ``data_samples``.
            training: Whether to mix images if ``batch_augments`` are set.

        Returns:
            ``inputs``, (B, 3, H, W) in float32, and ``data_samples``, whose labels and scores are
            views of one tensor of the batch on the device.
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
"""Augmentations that use the result of ``torch.randperm`` only to index images."""


class _OrderOnDevice(TorchFunctionMode):
    """Moves the order from ``torch.randperm`` to a GPU, where indexing would wait for it."""

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
    """Copy a tensor to a device. The host does not wait until it has arrived."""
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
    """The (B,) labels of samples that have one label each and no scores, or None."""
    if not samples or not all(type(s) is DataSample and 'gt_score' not in s for s in samples):
        return None
    labels = [sample.get('gt_label') for sample in samples]
    if any(label is None or label.numel() != 1 for label in labels):
        return None
    return torch.cat(labels)
