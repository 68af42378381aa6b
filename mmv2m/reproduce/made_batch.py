"""Batches of made-up images with made-up labels, for timing a training step."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config

__all__ = ['make_batch']

OBJECTS = 7
"""Number of objects on an image. It is the mean of COCO's training images."""


def make_batch(cfg: Config, size: tuple[int, int], count: int, device: str) -> dict[str, Any]:
    """Images of noise with made-up labels, in the form of a dataloader's batch.

    Args:
        cfg: Config of mmpretrain, mmdet or mmseg.
        size: H and W of the images.
        count: Number of images.
        device: Device of the images. Timing then does not include their copy to it.

    Returns:
        ``inputs``, a list of (3, H, W) uint8 images (mmpretrain: one (count, 3, H, W) tensor), and
        ``data_samples``, a list of the library's samples.

    Raises:
        KeyError: If this function cannot make labels for the config's library.
    """
    makers: dict[str, Callable[..., dict[str, Any]]] = dict(
        mmpretrain=_labelled, mmdet=_with_objects, mmseg=_with_maps
    )
    return makers[cfg.default_scope](cfg, size, count, device)


def _images(size: tuple[int, int], count: int, device: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8).to(
        device
    )


def _labelled(cfg: Config, size: tuple[int, int], count: int, device: str) -> dict[str, Any]:
    from mmpretrain.structures import DataSample

    classes = cfg.model.head.num_classes
    samples = [DataSample().set_gt_label(i % classes) for i in range(count)]
    return dict(inputs=_images(size, count, device), data_samples=samples)


def _with_objects(cfg: Config, size: tuple[int, int], count: int, device: str) -> dict[str, Any]:
    from mmdet.testing import demo_mm_inputs

    batch = demo_mm_inputs(
        batch_size=count,
        image_shapes=(3, *size),
        num_items=[OBJECTS] * count,
        # It makes labels from 1 to below this number.
        num_classes=cfg.model.roi_head.bbox_head.num_classes + 1,
        with_mask=True,
        device=device,
    )
    for sample in batch['data_samples']:
        sample.gt_instances.labels -= 1
    return batch


def _with_maps(cfg: Config, size: tuple[int, int], count: int, device: str) -> dict[str, Any]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(1)
    classes = cfg.model.decode_head.num_classes
    samples = []
    for _ in range(count):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        labels = torch.randint(0, classes, (1, *size), generator=generator)
        sample.gt_sem_seg = PixelData(data=labels.to(device))
        samples.append(sample)
    return dict(inputs=list(_images(size, count, device)), data_samples=samples)
