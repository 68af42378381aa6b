"""The parts of ViT-Adapter, which lends a plain backbone a pyramid of convolutional features.

The source is `Vision Transformer Adapter for Dense Predictions
<https://arxiv.org/abs/2205.08534>`_. The parts hand maps of several sizes to each other as one
sequence, (B, L, D), and a list of sizes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule, ModuleList, Sequential
from torch import Tensor, nn

__all__ = ['Extractor', 'Injector', 'SpatialPrior', 'flatten_maps', 'split_maps']

NORM = dict(type='LN', eps=1e-6)
Sizes = Sequence[tuple[int, int]]


def flatten_maps(maps: Sequence[Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
    """Join maps, each (B, D, H, W), to one sequence, (B, L, D), and return it with their sizes."""
    sizes = [(x.shape[2], x.shape[3]) for x in maps]
    return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1), sizes


def split_maps(tokens: Tensor, sizes: Sizes) -> list[Tensor]:
    """Cut a sequence, (B, L, D), into maps, each (B, D, H, W); undoes :func:`flatten_maps`."""
    parts = tokens.split([h * w for h, w in sizes], 1)
    return [x.transpose(1, 2).unflatten(2, size) for x, size in zip(parts, sizes, strict=True)]


class SpatialPrior(BaseModule):
    """Convolutions that make four maps of an image.

    Args:
        in_channels: Channels of the image, C.
        width: Channels of the stem's map; deeper maps have two and four times as many.
        embed_dims: Channels of each map that is returned, D.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self, in_channels: int, width: int, embed_dims: int, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        common = dict(padding=1, bias=False, norm_cfg=dict(type='BN'), inplace=False)
        self.stem = Sequential(
            ConvModule(in_channels, width, 3, stride=2, **common),
            ConvModule(width, width, 3, **common),
            ConvModule(width, width, 3, **common),
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.down = ModuleList(
            ConvModule(a, b, 3, stride=2, **common)
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.proj = ModuleList(nn.Conv2d(w, embed_dims, 1) for w in widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Make the maps.

        Args:
            x: (B, C, H, W), whose sides 32 divides.

        Returns:
            Four maps, each (B, D, h, w). Their sides are a 4th, an 8th, a 16th and a 32nd of the
            image's.
        """
        maps = [self.pool(self.stem(x))]
        for down in self.down:
            maps.append(down(maps[-1]))
        return [proj(x) for proj, x in zip(self.proj, maps, strict=True)]


class _Attention(BaseModule):
    """Deformable attention from normalised tokens to normalised maps.

    Args:
        embed_dims: Width of tokens and maps, D.
        num_heads: Heads.
        num_levels: Number of maps that are attended to.
        num_points: Points in each map to which a head attends.
        ratio: Width of the values over D.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_levels: int,
        num_points: int,
        ratio: float,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        from mmcv.ops import MultiScaleDeformableAttention  # mmcv-lite has no operators

        self.query_norm = build_norm_layer(NORM, embed_dims)[1]
        self.feat_norm = build_norm_layer(NORM, embed_dims)[1]
        self.attn = MultiScaleDeformableAttention(
            embed_dims,
            num_heads,
            num_levels,
            num_points,
            dropout=0.0,
            batch_first=True,
            value_proj_ratio=ratio,
        )

    def attend(self, query: Tensor, sizes: Sizes, feat: Tensor, feat_sizes: Sizes) -> Tensor:
        """Compute what each token gets from the maps.

        Args:
            query: (B, L, D), the tokens of some maps.
            sizes: (H, W) of each of the tokens' maps.
            feat: (B, M, D), the tokens of the maps that are attended to.
            feat_sizes: (H, W) of each map that is attended to.

        Returns:
            (B, L, D).
        """
        places = _places(sizes, query)[None, :, None].expand(len(query), -1, len(feat_sizes), -1)
        return _deform(self.attn, self.query_norm(query), self.feat_norm(feat), feat_sizes, places)


def _deform(attn: Any, query: Tensor, feat: Tensor, sizes: Sizes, places: Tensor) -> Tensor:
    """Compute mmcv's attention, with tensors of sizes only on GPUs, which need them."""
    from mmcv.ops import multi_scale_deform_attn as ops

    heads, grid = attn.num_heads, (len(sizes), attn.num_points)
    value = attn.value_proj(feat).unflatten(2, (heads, -1))
    offsets = attn.sampling_offsets(query).unflatten(2, (heads, *grid, 2))
    weights = attn.attention_weights(query).unflatten(2, (heads, -1))
    weights = weights.softmax(-1).unflatten(3, grid)
    sides = torch.tensor([(w, h) for h, w in sizes], dtype=query.dtype, device=query.device)
    locations = places[:, :, None, :, None] + offsets / sides[:, None]
    if not value.is_cuda:
        found = ops.multi_scale_deformable_attn_pytorch(value, sizes, locations, weights)
        return attn.output_proj(found)
    shapes = torch.tensor(sizes, dtype=torch.long, device=query.device)
    starts = torch.cat((shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]))
    # The operator does not support both half precisions, so it runs in float32, as in PlainMamba's
    # official code.
    found = ops.MultiScaleDeformableAttnFunction.apply(
        value.float(), shapes, starts, locations.float(), weights.float(), attn.im2col_step
    )
    return attn.output_proj(found.to(value.dtype))


def _places(sizes: Sizes, like: Tensor) -> Tensor:
    """Positions of the tokens of some maps, (L, 2), as (x, y) from 0 to 1."""
    places = []
    for height, width in sizes:
        y = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing='ij')
        places.append(torch.stack((columns, rows), -1).flatten(0, 1))
    return torch.cat(places).to(like.dtype)


class Injector(_Attention):
    """Attention of the backbone's tokens to the pyramid, times learned factors that start at 0.

    Args:
        embed_dims: Width of the tokens, D.
        *args: Heads, maps, points and ratio, as :class:`_Attention` takes them.
    """

    def __init__(self, embed_dims: int, *args: float) -> None:
        super().__init__(embed_dims, *args)  # type: ignore[arg-type]
        self.gamma = nn.Parameter(torch.zeros(embed_dims))

    def forward(self, query: Tensor, sizes: Sizes, feat: Tensor, feat_sizes: Sizes) -> Tensor:
        """Turn a tensor (B, L, D) into one of the same shape; see ``attend``."""
        return query + self.gamma * self.attend(query, sizes, feat, feat_sizes)


class Extractor(_Attention):
    """Attention of the pyramid to the backbone's tokens, followed by an MLP with a convolution.

    Args:
        embed_dims: Width of the tokens, D.
        *args: Heads, maps, points and ratio, as :class:`_Attention` takes them.
        ffn_ratio: Hidden width of the MLP over D.
        drop_path: Stochastic depth of the MLP.
    """

    def __init__(self, embed_dims: int, *args: float, ffn_ratio: float, drop_path: float) -> None:
        super().__init__(embed_dims, *args)  # type: ignore[arg-type]
        hidden = int(embed_dims * ffn_ratio)
        self.ffn_norm = build_norm_layer(NORM, embed_dims)[1]
        self.fc1 = nn.Linear(embed_dims, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, embed_dims)
        self.drop_path = DropPath(drop_path)

    def forward(self, query: Tensor, sizes: Sizes, feat: Tensor, feat_sizes: Sizes) -> Tensor:
        """Turn a tensor (B, L, D) into one of the same shape; see ``attend``."""
        query = query + self.attend(query, sizes, feat, feat_sizes)
        maps = split_maps(self.fc1(self.ffn_norm(query)), sizes)
        hidden, _ = flatten_maps([self.conv(x) for x in maps])
        return query + self.drop_path(self.fc2(self.act(hidden)))
