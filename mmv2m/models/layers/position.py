"""Learned absolute positions on a map, for any image size."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from .sizes import is_known

__all__ = ['PositionEmbedding', 'resize_map', 'resize_on_load']


def resize_map(x: Tensor, size: tuple[int, int], mode: str = 'bicubic') -> Tensor:
    """Interpolate a learned map.

    Args:
        x: (1, H, W, D).
        size: The new H and W.
        mode: The mode of :func:`torch.nn.functional.interpolate`.

    Returns:
        (1, *size, D) in the dtype of ``x``. If ``x`` has that size already, it is ``x`` itself.
    """
    if is_known(x.shape[1] == size[0]) and is_known(x.shape[2] == size[1]):
        return x
    resized = F.interpolate(
        x.float().permute(0, 3, 1, 2), size=size, mode=mode, align_corners=False
    )
    return resized.permute(0, 2, 3, 1).to(x.dtype)


def resize_on_load(name: str, mode: str) -> Callable[..., None]:
    """Make a ``load_state_dict`` pre-hook that resizes a learned map.

    With it, a checkpoint of another image size can be loaded.

    Args:
        name: Name of the parameter or buffer in the module.
        mode: The mode of :func:`resize_map`.
    """
    return partial(_resize_loaded, name, mode)  # unlike a closure, a partial can be pickled


def _resize_loaded(
    name: str, mode: str, module: nn.Module, state_dict: dict, prefix: str, *args: object
) -> None:
    loaded, own = state_dict.get(prefix + name), getattr(module, name)
    if loaded is not None and loaded.dim() == 4 and loaded.shape[-1] == own.shape[-1]:
        size = (own.shape[1], own.shape[2])
        state_dict[prefix + name] = resize_map(loaded, size, mode)


class PositionEmbedding(BaseModule):
    """A learned vector for each patch, which is added to it, and interpolated at other sizes.

    Args:
        embed_dims: Width of the map, D.
        grid_size: Patches along H and W at the size that the model is made for.
        mode: The mode of :func:`resize_map`.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        grid_size: tuple[int, int],
        mode: str = 'bicubic',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.mode = mode
        self.weight = nn.Parameter(torch.empty(1, *grid_size, embed_dims))
        nn.init.trunc_normal_(self.weight, std=0.02)
        self.register_load_state_dict_pre_hook(resize_on_load('weight', mode))

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one of the same shape, for any H and W."""
        return x + resize_map(self.weight, (x.shape[1], x.shape[2]), self.mode)
