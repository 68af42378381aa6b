"""The PlainMamba backbone with a ViT-Adapter, for detectors."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmv2m.registry import MODELS

from ..layers.adapter import Extractor, Injector, SpatialPrior, flatten_maps, split_maps
from ..layers.checks import check_choices
from .plain_mamba import ARCH_ZOO, PlainMamba
from .settings import stage_indices
from .staged import PYRAMID_STRIDES, checks_settings
from .zoo import look_up_arch

__all__ = ['PlainMambaAdapter']

SCALES = (4, 2, 1, 0.5)
"""Side of each output's map over the side of the backbone's own map."""

PARTS = ('prior.', 'level_embed', 'interactions.', 'up.', 'out_norms.')
"""First parts of the names of parameters that the adapter adds to the backbone."""


@MODELS.register_module()
class PlainMambaAdapter(PlainMamba):
    """PlainMamba with the adapter that its authors' detectors have.

    Around each stage, a pyramid of convolutional features and the backbone's tokens attend to each
    other by deformable attention (https://arxiv.org/abs/2205.08534). The attention needs mmcv's
    compiled operators. Images whose sides 32 does not divide are padded at the bottom and the
    right.

    Args:
        arch: As for :class:`PlainMamba`. Defaults to ``'L1'``.
        img_size: The usual image size, an int or (H, W), in pixels. Defaults to 224.
        in_channels: Channels of the image. Defaults to 3.
        out_indices: Which of four maps are returned; their sides are a 4th, an 8th, a 16th and a
            32nd of the image's. Defaults to all.
        out_type: ``'featmap'``, the only type of output: maps, each (B, D, H, W).
        conv_inplane: Channels of the pyramid's first convolutions. Defaults to 64.
        deform_num_heads: Heads of the attention, which divide D. Defaults to the authors' 6, or 8
            where 6 does not divide D, as in L3.
        n_points: Points to which each head attends in a map. Defaults to 4.
        deform_ratio: Width of the attention's values over D. Defaults to 1.
        cffn_ratio: Hidden width of the pyramid's MLPs over D. Defaults to 0.25.
        drop_path_rate: Stochastic depth of the last block, and of the pyramid's MLPs. Defaults
            to 0.
        frozen_stages: As for :class:`PlainMamba`. Nothing of the adapter is frozen.
        norm_eval: Keep BatchNorm layers in eval mode. Defaults to False.
        with_cp: Recompute each block in the backward pass. Defaults to False.
        norm_cfg: Norms of the blocks. Defaults to ``dict(type='SameDtypeLN')``.
        scan_backend: Backend of the scan operators; see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`. The default is the one of
            :class:`PlainMamba`.

    Raises:
        ValueError: If a setting is impossible.
        TypeError: If there is no such setting.
    """

    @checks_settings
    def __init__(
        self,
        arch: str | dict = 'L1',
        img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        out_type: str = 'featmap',
        conv_inplane: int = 64,
        deform_num_heads: int | None = None,
        n_points: int = 4,
        deform_ratio: float = 1.0,
        cffn_ratio: float = 0.25,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        scan_backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            arch,
            img_size,
            in_channels,
            (0, 1, 2, 3),
            out_type,
            drop_path_rate,
            frozen_stages,
            norm_eval,
            with_cp,
            norm_cfg,
            scan_backend,
            init_cfg,
        )
        width = self.embed_dims
        self.prior = SpatialPrior(in_channels, conv_inplane, width)
        self.level_embed = nn.Parameter(torch.randn(3, width))
        attention = (_heads(deform_num_heads, width), n_points, deform_ratio)
        ffn = dict(ffn_ratio=cffn_ratio, drop_path=drop_path_rate)
        self.interactions = ModuleList(
            Interaction(width, attention, ffn, 3 if i == 3 else 1) for i in range(4)
        )
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.out_norms = ModuleList(nn.BatchNorm2d(width) for _ in SCALES)
        self._out_indices = stage_indices(out_indices)
        self.out_channels = (width,) * len(self.out_indices)
        self.strides = PYRAMID_STRIDES

    @classmethod
    def check_values(cls, values: dict[str, Any]) -> None:
        """See :meth:`StagedBackbone.check_values`."""
        super().check_values(values)
        check_choices(out_type=(values['out_type'], ('featmap',)))
        width = look_up_arch(values['arch'], ARCH_ZOO).embed_dims
        heads = _heads(values['deform_num_heads'], width)
        if not isinstance(heads, int) or heads < 1 or width % heads:
            raise ValueError(
                f'deform_num_heads must be a positive integer that divides the width {width}, but '
                f'is {heads!r}'
            )

    def add_output_norms(
        self, norm_cfg: dict | None, widths: Sequence[int], strides: Sequence[int]
    ) -> None:
        """Put no norms behind outputs: the adapter has BatchNorms of its own there."""
        super().add_output_norms(None, widths, strides)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features.

        Args:
            x: Images, (B, in_channels, H, W), normalised.

        Returns:
            A map, (B, D, h, w), for each of ``out_indices``.

        Raises:
            ValueError: If ``x`` is no batch of images with ``in_channels`` channels.
            TypeError: If ``x`` is no floating-point tensor.
        """
        self.check_images(x)
        x = F.pad(x, (0, -x.shape[3] % 32, 0, -x.shape[2] % 32))
        first, *others = self.prior(x)
        levels = [c + e.view(-1, 1, 1) for c, e in zip(others, self.level_embed, strict=True)]
        tokens, sizes = flatten_maps(levels)
        x = self.embed(x)
        for stage, interaction in zip(self.stages, self.interactions, strict=True):
            x = interaction.inject(x, tokens, sizes)
            x = stage(x)
            tokens = interaction.extract(tokens, sizes, x)
        maps = split_maps(tokens, sizes)
        maps.insert(0, self.up(maps[0]) + first)
        x = x.permute(0, 3, 1, 2)
        return tuple(self.out_norms[i](maps[i] + _resize(x, SCALES[i])) for i in self.out_indices)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """See :meth:`StagedBackbone.get_layer_depth`; the adapter is in the last layer."""
        layer, layers = super().get_layer_depth(param_name, prefix)
        own = param_name.removeprefix(prefix).startswith(PARTS)
        return (layers - 1 if own else layer), layers


class Interaction(BaseModule):
    """Attention between the backbone and the pyramid, in front of a stage and behind it.

    Args:
        embed_dims: D.
        attention: Heads, points and ratio of the attention.
        ffn: Ratio and stochastic depth of the pyramid's MLPs.
        extractors: Number of extractors that run one after the other behind the stage.
    """

    def __init__(
        self, embed_dims: int, attention: tuple[int, int, float], ffn: dict, extractors: int
    ) -> None:
        super().__init__()
        heads, points, ratio = attention
        self.injector = Injector(embed_dims, heads, 3, points, ratio)
        self.extractors = ModuleList(
            Extractor(embed_dims, heads, 1, points, ratio, **ffn) for _ in range(extractors)
        )

    def inject(self, x: Tensor, tokens: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
        """Add what attention finds in the pyramid to the stage's input (B, H, W, D)."""
        size = (x.shape[1], x.shape[2])
        return self.injector(x.flatten(1, 2), [size], tokens, sizes).unflatten(1, size)

    def extract(self, tokens: Tensor, sizes: list[tuple[int, int]], x: Tensor) -> Tensor:
        """Add what attention finds in the stage's output (B, H, W, D) to the pyramid (B, L, D)."""
        size = (x.shape[1], x.shape[2])
        for extractor in self.extractors:
            tokens = extractor(tokens, sizes, x.flatten(1, 2), [size])
        return tokens


def _heads(number: int | None, width: int) -> int:
    """Heads of the attention: ``number``, or by default the authors' number for this width."""
    if number is not None:
        return number
    return 8 if width % 6 else 6


def _resize(x: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return x
    return F.interpolate(x, scale_factor=scale, mode='bilinear', align_corners=False)
