"""The V2M backbone."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import ModuleList, Sequential
from torch import Tensor, nn

from mmv2m.registry import MODELS

from ..layers import CORNERS, PositionEmbedding, V2MBlock, build_class_token
from .arch import parse_arch
from .settings import check_v2m
from .staged import StagedBackbone

__all__ = ['V2M']


@MODELS.register_module()
class V2M(StagedBackbone):
    """Visual 2-Dimensional Mamba (https://arxiv.org/abs/2410.10382).

    Four stages of blocks whose state space model runs over the image in two dimensions, from four
    corners. The plain models keep one resolution throughout. Any image size and aspect ratio goes
    in: sides that the patch size does not divide are padded at the bottom and the right, and
    positions and class tokens are interpolated, at run time and when a checkpoint of another size
    is loaded.

    Args:
        arch: ``'tiny' | 'small'`` (Table 1's V2M-T and V2M-S) or a dict with ``embed_dims`` and
            ``depths`` (four numbers), and optionally ``expand``, ``state_dims``, ``conv_size``,
            ``dt_rank``. Defaults to ``'tiny'``.
        img_size: The usual image size, an int or (H, W), in pixels. Defaults to 224.
        patch_size: Side of a patch in pixels. Defaults to 16.
        in_channels: Channels of the image. Defaults to 3.
        corners: Where the 2D SSM starts: one to four of ``'UL', 'LR', 'UR', 'LL'``, in the order of
            Table 4. Defaults to all four.
        geometry: ``'paper'`` or ``'released'``, which repeats the branches of the authors' released
            code, for checkpoints trained with it. Defaults to ``'paper'``.
        class_token: Fig. 4's ``'middle' | 'edge' | 'mean'``; ``'mean'`` adds no tokens and is what
            dense tasks use. Defaults to ``'middle'``.
        out_indices: Output after which stages, an int or a sequence; negative ones count from the
            last stage. Stages behind the last output are not built. Defaults to -1.
        out_type: ``'cls_token'``, the class token or the mean, (B, D); ``'featmap'``, the patches,
            (B, D, H, W); ``'avg_featmap'``, their mean, (B, D); ``'raw'``, all tokens row by row,
            class tokens included, (B, L, D). Defaults to ``'cls_token'``.
        drop_rate: Dropout after the position embedding. Defaults to 0.
        drop_path_rate: Stochastic depth of the last block; it grows linearly. Defaults to 0.
        frozen_stages: -1: nothing frozen; 0: patches, positions and class tokens; k: also the first
            k stages, set to eval mode. Defaults to -1.
        norm_eval: Keep BatchNorm layers, if ``norm_cfg`` brings any, in eval mode. Defaults to
            False.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
            Defaults to False.
        norm_cfg: Norm of the blocks and the outputs. Defaults to
            ``dict(type='RMSNorm', eps=1e-5)``.
        scan_backend: Backend of the scan operators, see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If a setting is impossible; :meth:`check_settings` says so without building.
        TypeError: If there is no such setting.

    Example:
        >>> features = V2M('tiny')(torch.rand(1, 3, 224, 224))
        >>> features[0].shape
        torch.Size([1, 192])
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        corners: Sequence[str] = tuple(CORNERS),
        geometry: str = 'paper',
        class_token: str = 'middle',
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'cls_token',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        norm_cfg: dict | None = None,
        scan_backend: str = 'auto',
        init_cfg: dict | list | None = None,
    ) -> None:
        self.check_settings(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            corners=corners,
            geometry=geometry,
            class_token=class_token,
            out_indices=out_indices,
            out_type=out_type,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            frozen_stages=frozen_stages,
            norm_cfg=norm_cfg,
            scan_backend=scan_backend,
        )
        super().__init__(
            in_channels, out_indices, out_type, frozen_stages, norm_eval, with_cp, init_cfg
        )
        self.arch = parse_arch(arch)
        self.embed_dims = self.arch.embed_dims
        norm_cfg = norm_cfg or dict(type='RMSNorm', eps=1e-5)

        self.patch_embed = PatchEmbed(
            in_channels, self.embed_dims, kernel_size=patch_size, stride=None, input_size=img_size
        )
        nn.init.trunc_normal_(
            self.patch_embed.projection.weight, std=(in_channels * patch_size**2) ** -0.5
        )
        nn.init.zeros_(self.patch_embed.projection.bias)
        grid_size = self.patch_embed.init_out_size
        self.pos_embed = PositionEmbedding(self.embed_dims, grid_size)
        self.class_token = build_class_token(class_token, self.embed_dims, grid_size)
        self.drop_after_pos = nn.Dropout(drop_rate)

        self.stages = self._build_stages(
            drop_path_rate,
            norm_cfg,
            dict(
                expand=self.arch.expand,
                states=self.arch.state_dims,
                conv_size=self.arch.conv_size,
                dt_rank=self.arch.dt_rank,
                corners=corners,
                geometry=geometry,
                out_proj_scale=sum(self.arch.depths) ** -0.5,
                backend=scan_backend,
            ),
        )
        self.add_output_norms(norm_cfg, [self.embed_dims] * 4)
        self.freeze_stages()

    @classmethod
    def check_values(cls, values: dict[str, Any]) -> None:
        """See :meth:`StagedBackbone.check_values`."""
        check_v2m(values)

    def stem(self) -> Iterator[nn.Module]:
        """See :meth:`StagedBackbone.stem`."""
        yield from (self.patch_embed, self.pos_embed, self.class_token, self.drop_after_pos)

    def embed(self, x: Tensor) -> Tensor:
        """See :meth:`StagedBackbone.embed`."""
        x, grid_size = self.patch_embed(x)
        x = self.pos_embed(x.unflatten(1, grid_size))
        return self.drop_after_pos(self.class_token(x))

    def _build_stages(self, drop_path_rate: float, norm_cfg: dict, mixer_cfg: dict) -> ModuleList:
        """The stages up to the last output."""
        depths = self.arch.depths
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths)).tolist())
        return ModuleList(
            Sequential(
                *(V2MBlock(self.embed_dims, next(rates), norm_cfg, mixer_cfg) for _ in range(depth))
            )
            for depth in depths[: self.stages_built]
        )
