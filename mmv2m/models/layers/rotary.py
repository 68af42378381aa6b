"""Rotary positions on a map, for any image size."""

import torch
from mmengine.model import BaseModule
from torch import Tensor

from .params import widen
from .position import resize_map, resize_on_load

__all__ = ['RotaryPosition']

THETA = 10000


class RotaryPosition(BaseModule):
    """A rotation of pairs of channels by angles that grow along the map.

    The first half of the channels turns with the row, and the second half with the column. Pair
    ``k`` of each half turns by ``t * THETA^(-4 k / D)`` radians. ``t`` is the position, scaled such
    that each side of the map is ``pretrain_side`` long. At other sizes, and when a checkpoint of
    another size is loaded, the tables of cosines and sines are interpolated. LocalVim
    (https://arxiv.org/abs/2403.09338) does the same, and took it from EVA-02.

    Args:
        embed_dims: Width of the map, D; a multiple of 4.
        grid_size: Patches along H and W at the size that the model is made for.
        pretrain_side: Patches along a side for which positions are not scaled.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        embed_dims: int,
        grid_size: tuple[int, int],
        pretrain_side: int = 14,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        rates = THETA ** (-torch.arange(0, embed_dims // 2, 2) / (embed_dims // 2))
        rows, columns = (
            torch.arange(side)[:, None] / side * pretrain_side * rates for side in grid_size
        )
        angles = torch.cat(
            (
                rows[:, None].expand(-1, grid_size[1], -1),
                columns[None].expand(grid_size[0], -1, -1),
            ),
            -1,
        )[None]
        self.register_buffer('cos', angles.cos())
        self.register_buffer('sin', angles.sin())
        for name in ('cos', 'sin'):
            self.register_load_state_dict_pre_hook(resize_on_load(name, 'bicubic'))

    def forward(self, x: Tensor) -> Tensor:
        """Turn a tensor (B, H, W, D) into one in float32, or in float64 if ``x`` is."""
        x = widen(x)
        size = (x.shape[1], x.shape[2])
        cos, sin = (resize_map(t.to(x.dtype), size) for t in (self.cos, self.sin))
        # A rotation is a complex product, which takes one pass over the map.
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)
