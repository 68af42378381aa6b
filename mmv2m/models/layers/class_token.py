"""The paper's three ways to make one vector of a map for classification (Fig. 4)."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from .position import resize_map, resize_on_load

__all__ = [
    'CLASS_TOKENS',
    'CrossToken',
    'MeanToken',
    'build_class_token',
    'insert_zeros',
    'strip_cross',
]


def cross_position(patches: int, at_edge: bool) -> int:
    """Index of the added row or column among ``patches`` rows or columns of patches."""
    return patches if at_edge else patches // 2


def insert_cross(x: Tensor, row: Tensor, column: Tensor, at_edge: bool) -> Tensor:
    """Add a row and a column to a map.

    Args:
        x: (B, H, W, D).
        row: (1, 1, W + 1, D).
        column: (1, H, 1, D).
        at_edge: Whether they cross in the lower-right corner instead of the middle.

    Returns:
        (B, H + 1, W + 1, D).
    """
    i, j = (cross_position(side, at_edge) for side in x.shape[1:3])
    column = column.to(x.dtype).expand(x.shape[0], -1, -1, -1)
    row = row.to(x.dtype).expand(x.shape[0], -1, -1, -1)
    x = torch.cat((x[:, :, :j], column, x[:, :, j:]), 2)
    return torch.cat((x[:, :i], row, x[:, i:]), 1)


def insert_zeros(x: Tensor, at_edge: bool) -> Tensor:
    """Add a row and a column of zeros to a map: (B, H, W, D) to (B, H + 1, W + 1, D)."""
    _, height, width, channels = x.shape
    row, column = x.new_zeros(1, 1, width + 1, channels), x.new_zeros(1, height, 1, channels)
    return insert_cross(x, row, column, at_edge)


def strip_cross(x: Tensor, at_edge: bool) -> Tensor:
    """Undo :func:`insert_cross`: (B, H + 1, W + 1, D) to (B, H, W, D)."""
    i, j = (cross_position(side - 1, at_edge) for side in x.shape[1:3])
    x = torch.cat((x[:, :i], x[:, i + 1 :]), 1)
    return torch.cat((x[:, :, :j], x[:, :, j + 1 :]), 2)


class MeanToken(BaseModule):
    """Fig. 4(a): no tokens are added, and the mean over the map is read."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (B, H, W, D) as it is."""
        return x

    def read(self, x: Tensor) -> Tensor:
        """Turn (B, H, W, D) into (B, D)."""
        return x.mean((1, 2))

    def strip(self, x: Tensor) -> Tensor:
        """Return the map (B, H, W, D) as it is."""
        return x


class CrossToken(BaseModule):
    """Fig. 4(b) and (c): a row and a column of learned tokens, of which the crossing is read.

    Each of the H + W + 1 added tokens is learned. At another size, the row and the column are
    interpolated, and the crossing stays the same.

    Args:
        embed_dims: Width of the map, D.
        grid_size: Patches along H and W at the size that the model is made for.
        at_edge: Whether they cross in the lower-right corner (b) instead of the middle (c).
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        grid_size: tuple[int, int],
        at_edge: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.at_edge = at_edge
        self.row = nn.Parameter(torch.empty(1, 1, grid_size[1], embed_dims))
        self.column = nn.Parameter(torch.empty(1, grid_size[0], 1, embed_dims))
        self.crossing = nn.Parameter(torch.empty(1, 1, 1, embed_dims))
        for tokens in (self.row, self.column, self.crossing):
            nn.init.trunc_normal_(tokens, std=0.02)
        for name in ('row', 'column'):
            self.register_load_state_dict_pre_hook(resize_on_load(name, 'bilinear'))

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, H, W, D) into (B, H + 1, W + 1, D)."""
        height, width = x.shape[1:3]
        j = cross_position(width, self.at_edge)
        row = resize_map(self.row, (1, width), 'bilinear')
        row = torch.cat((row[:, :, :j], self.crossing, row[:, :, j:]), 2)
        column = resize_map(self.column, (height, 1), 'bilinear')
        return insert_cross(x, row, column, self.at_edge)

    def read(self, x: Tensor) -> Tensor:
        """Return the token at the crossing, (B, D), of a map (B, H + 1, W + 1, D)."""
        i, j = (cross_position(side - 1, self.at_edge) for side in x.shape[1:3])
        return x[:, i, j]

    def strip(self, x: Tensor) -> Tensor:
        """Return the patches alone, (B, H, W, D), of a map (B, H + 1, W + 1, D)."""
        return strip_cross(x, self.at_edge)


CLASS_TOKENS = ('middle', 'edge', 'mean')


def build_class_token(
    kind: str, embed_dims: int, grid_size: tuple[int, int]
) -> CrossToken | MeanToken:
    """Build the module for a value of the setting ``class_token``.

    Args:
        kind: The value.
        embed_dims: Width of the map, D.
        grid_size: Rows and columns of patches of the usual image.

    Raises:
        ValueError: If ``kind`` is not one of :data:`CLASS_TOKENS`.
    """
    if kind not in CLASS_TOKENS:
        raise ValueError(f'class_token must be one of {", ".join(CLASS_TOKENS)}, but got {kind!r}')
    if kind == 'mean':
        return MeanToken()
    return CrossToken(embed_dims, grid_size, at_edge=kind == 'edge')
