"""Vim's class token, in the middle of the sequence."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from .sequence_ssm import as_sequence

__all__ = ['MiddleToken']


class MiddleToken(BaseModule):
    """One learned token in the middle of the sequence that a map's tokens form.

    The tokens are read row by row, and the learned token stands behind the first L // 2 of L. It
    has a learned position of its own (Vim, https://arxiv.org/abs/2401.09417).

    Args:
        embed_dims: Width of the map, D.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(self, embed_dims: int, init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.token = nn.Parameter(torch.empty(embed_dims))
        self.position = nn.Parameter(torch.empty(embed_dims))
        for vector in (self.token, self.position):
            nn.init.trunc_normal_(vector, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, H, W, D) into (B, 1, H * W + 1, D)."""
        x = as_sequence(x)
        middle = x.shape[2] // 2
        token = (self.token + self.position).to(x.dtype).expand(x.shape[0], 1, 1, -1)
        return torch.cat((x[:, :, :middle], token, x[:, :, middle:]), 2)

    def read(self, x: Tensor) -> Tensor:
        """Return the token, (B, D), of a sequence (B, 1, L + 1, D)."""
        return x[:, 0, (x.shape[2] - 1) // 2]

    def strip(self, x: Tensor) -> Tensor:
        """Return the other tokens, (B, 1, L, D), of a sequence (B, 1, L + 1, D)."""
        middle = (x.shape[2] - 1) // 2
        return torch.cat((x[:, :, :middle], x[:, :, middle + 1 :]), 2)
