"""The paper's three ways to a vector for classification (Fig. 4)."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from .position import resize_map, resize_on_load

__all__ = ['CLASS_TOKENS', 'CrossToken', 'MeanToken', 'build_class_token']


class MeanToken(BaseModule):
    """Fig. 4(a): no tokens are added; the mean over the map is read."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D), returned as it is."""
        return x

    def read(self, x: Tensor) -> Tensor:
        """(B, H, W, D) to (B, D)."""
        return x.mean((1, 2))

    def strip(self, x: Tensor) -> Tensor:
        """(B, H, W, D), returned as it is."""
        return x


class CrossToken(BaseModule):
    """Fig. 4(b) and (c): a row and a column of learned tokens, read where they cross.

    Each of the H + W + 1 added tokens is learned; at another size the row and the column are
    interpolated, the crossing stays.

    Args:
        embed_dims: Width of the map, D.
        grid_size: Patches along H and W at the size that the model is made for.
        at_edge: Cross in the lower-right corner (b) instead of the middle (c).
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

    def _position(self, patches: int) -> int:
        """Index of the added row or column among ``patches`` others."""
        return patches if self.at_edge else patches // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) to (B, H + 1, W + 1, D)."""
        height, width = x.shape[1:3]
        i, j = self._position(height), self._position(width)
        row = resize_map(self.row, (1, width), 'bilinear')
        column = resize_map(self.column, (height, 1), 'bilinear')
        row = torch.cat((row[:, :, :j], self.crossing, row[:, :, j:]), 2).to(x.dtype)
        column = column.to(x.dtype).expand(x.shape[0], -1, -1, -1)
        x = torch.cat((x[:, :, :j], column, x[:, :, j:]), 2)
        return torch.cat((x[:, :i], row.expand(x.shape[0], -1, -1, -1), x[:, i:]), 1)

    def read(self, x: Tensor) -> Tensor:
        """(B, H + 1, W + 1, D) to the crossing, (B, D)."""
        return x[:, self._position(x.shape[1] - 1), self._position(x.shape[2] - 1)]

    def strip(self, x: Tensor) -> Tensor:
        """(B, H + 1, W + 1, D) to the patches alone, (B, H, W, D)."""
        i, j = self._position(x.shape[1] - 1), self._position(x.shape[2] - 1)
        x = torch.cat((x[:, :i], x[:, i + 1 :]), 1)
        return torch.cat((x[:, :, :j], x[:, :, j + 1 :]), 2)


CLASS_TOKENS = ('middle', 'edge', 'mean')


def build_class_token(
    kind: str, embed_dims: int, grid_size: tuple[int, int]
) -> CrossToken | MeanToken:
    """The module behind a value of ``class_token``.

    Raises:
        ValueError: If ``kind`` is not one of :data:`CLASS_TOKENS`.
    """
    if kind not in CLASS_TOKENS:
        raise ValueError(f'class_token must be one of {", ".join(CLASS_TOKENS)}, but got {kind!r}')
    if kind == 'mean':
        return MeanToken()
    return CrossToken(embed_dims, grid_size, at_edge=kind == 'edge')
