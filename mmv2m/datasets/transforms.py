"""Transforms of images that need less CPU time than mmpretrain's."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.datasets.transforms import RandomResizedCrop

from mmv2m.registry import TRANSFORMS

__all__ = ['TorchRandomResizedCrop']


@TRANSFORMS.register_module()
class TorchRandomResizedCrop(RandomResizedCrop):
    """mmpretrain's ``RandomResizedCrop`` with ``backend='pillow'``, resized by PyTorch.

    PyTorch's filters for uint8 images are Pillow's, with antialiasing, but use the vector units of
    CPUs. A crop takes about a quarter of the time. Values differ from Pillow's by rounding: by one
    or two of 255 levels, in fewer than one value of a hundred. (OpenCV's filters, which are
    mmpretrain's default, do not antialias, and differ by two levels in the mean.) mmpretrain's code
    draws the crop, in the same order from the same generator.

    Args:
        interpolation: ``'bilinear'`` or ``'bicubic'``.
        **settings: Settings of mmpretrain's class, without ``backend``.

    Raises:
        ValueError: If PyTorch does not have the interpolation for uint8, or a backend is chosen.
    """

    def __init__(self, *args: Any, interpolation: str = 'bilinear', **settings: Any) -> None:
        if 'backend' in settings:
            raise ValueError(
                'TorchRandomResizedCrop resizes by PyTorch: leave backend out, or use '
                'RandomResizedCrop'
            )
        if interpolation not in ('bilinear', 'bicubic'):
            raise ValueError(
                f"interpolation must be 'bilinear' or 'bicubic', but is {interpolation!r}"
            )
        super().__init__(*args, interpolation=interpolation, backend='pillow', **settings)
        self.backend = 'torch'

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop and resize ``results['img']``, (H, W) or (H, W, C) in uint8.

        Raises:
            TypeError: If the image has another dtype. Pillow refuses it too.
        """
        img = results['img']
        if img.dtype != np.uint8:
            raise TypeError(f'TorchRandomResizedCrop takes images in uint8, not {img.dtype}')
        top, left, height, width = self.rand_crop_params(img)
        # mmcv's crop ends at the border of the image, and a slice that begins inside does too.
        rows = slice(max(top, 0), max(top + height, 0))
        columns = slice(max(left, 0), max(left + width, 0))
        results['img'] = img = self._resize(img[rows, columns])
        results['img_shape'] = img.shape
        return results

    def _resize(self, img: np.ndarray) -> np.ndarray:
        # The image is in channels-last order, in which PyTorch's filter is fastest.
        x = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(img))).permute(2, 0, 1)[None]
        x = F.interpolate(
            x, tuple(self.scale), mode=self.interpolation, antialias=True, align_corners=False
        )
        # The memory is that of a (C, H, W) image, so that PackInputs makes one without a copy.
        resized = x[0].permute(1, 2, 0).numpy()
        return resized if img.ndim == 3 else resized[..., 0]
