"""The V2M backbone."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.model import ModuleList
from torch import Tensor, nn

from mmv2m.registry import MODELS

from ..layers import (
    CORNERS,
    ConvStem,
    Downsample,
    PatchMap,
    PositionEmbedding,
    Stage,
    V2MBlock,
    build_class_token,
)
from .arch import ARCH_ZOO, parse_arch
from .settings import check_v2m
from .staged import PYRAMID_STRIDES, StagedBackbone, checks_settings, drop_path_rates

__all__ = ['V2M']


@MODELS.register_module()
class V2M(StagedBackbone):
    """Visual 2-Dimensional Mamba (https://arxiv.org/abs/2410.10382).

    It has four stages of blocks. Their state space model runs over the image in two dimensions,
    from four corners. The plain models keep one resolution, the pyramids (the paper's V2M-S* and
    V2M-B*) halve it between stages, and the local ones scan the map and windows of it. Images may
    have any size and aspect ratio. Sides that the patch size does not divide are padded at the
    bottom and the right. Positions and class tokens are interpolated, at run time and when a
    checkpoint of another size is loaded.

    Args:
        arch: ``'tiny' | 'small' | 'local-tiny' | 'local-small' | 'pyramid-small' | 'pyramid-base'``
            (Table 1's V2M-T, V2M-S, both + local window, V2M-S* and V2M-B*), or a dict of
            :class:`~mmv2m.models.backbones.arch.Arch`'s attributes, such as ``embed_dims`` and
            ``depths``. Defaults to ``'tiny'``.
        img_size: The usual image size, an int or (H, W), in pixels; it makes no difference to a
            pyramid. Defaults to 224.
        patch_size: Side of a patch in pixels. Defaults to 16, or to 4 in a pyramid, which takes no
            other.
        in_channels: Channels of the image. Defaults to 3.
        corners: Corners from which the 2D SSM starts: one to four of ``'UL', 'LR', 'UR', 'LL'``,
            which is the order of Table 4. Defaults to all four.
        geometry: ``'paper'`` or ``'released'``, which repeats the branches of the authors' released
            code, for checkpoints trained with it. Defaults to ``'paper'``.
        recurrence: ``'simplified'``, the paper's Eq. 9 to 12, or ``'coupled'``, the exact Eq. 6 to
            8, whose two states are coupled. A coupled model has other parameters. It takes neither
            an arch with scans nor the released geometry. Defaults to ``'simplified'``.
        class_token: Fig. 4's ``'middle' | 'edge' | 'mean'``. ``'mean'`` adds no tokens; dense tasks
            use it. Defaults to ``'middle'``, or to ``'mean'`` in a pyramid, which takes no other.
        out_indices: Stages behind which there are outputs, an int or a sequence of ints. Negative
            numbers count from the last stage. Stages behind the last output are not built. Defaults
            to -1.
        out_type: ``'cls_token'``, the class token or the mean, (B, D); ``'featmap'``, the patches,
            (B, D, H, W); ``'avg_featmap'``, their mean, (B, D); ``'raw'``, all tokens row by row,
            class tokens included, (B, L, D). Defaults to ``'cls_token'``.
        drop_rate: Dropout after the position embedding. Defaults to 0.
        drop_path_rate: Rate of stochastic depth of the last block; rates grow linearly from 0.
            Defaults to 0.
        frozen_stages: -1 freezes nothing, 0 patches or stem, positions and class tokens, and k > 0
            also the first k stages. What is frozen is also in eval mode. Defaults to -1.
        norm_eval: Keep BatchNorm layers in eval mode; this backbone has none of its own. Defaults
            to False.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
            Defaults to False.
        norm_cfg: Norm of the blocks and the outputs, and of a pyramid's convolutions. Defaults to
            ``dict(type='RMSNorm', eps=1e-5)``, and in a pyramid to ``dict(type='SameDtypeLN',
            eps=1e-5)``, a LayerNorm in the dtype of its input.
        scan_backend: Backend of the scan operators; see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If a setting is impossible. :meth:`check_settings` raises it without building.
        TypeError: If there is no such setting.

    Example:
        >>> features = V2M('tiny')(torch.rand(1, 3, 224, 224))
        >>> features[0].shape
        torch.Size([1, 192])
    """

    ARCH_ZOO = ARCH_ZOO

    @checks_settings
    def __init__(
        self,
        arch: str | dict = 'tiny',
        img_size: int | tuple[int, int] = 224,
        patch_size: int | None = None,
        in_channels: int = 3,
        corners: Sequence[str] = tuple(CORNERS),
        geometry: str = 'paper',
        recurrence: str = 'simplified',
        class_token: str | None = None,
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
        super().__init__(
            in_channels, out_indices, out_type, frozen_stages, norm_eval, with_cp, init_cfg
        )
        self.arch = parse_arch(arch)
        self.embed_dims = self.arch.embed_dims
        norm_cfg = norm_cfg or self.arch.norm_cfg
        class_token = class_token or self.arch.class_token
        if self.arch.is_pyramid:
            self.patch_embed: nn.Module = ConvStem(in_channels, self.embed_dims, norm_cfg)
            self.pos_embed: nn.Module = nn.Identity()
        else:
            self._build_patches(in_channels, img_size, patch_size, class_token)
        self.drop_after_pos = nn.Dropout(drop_rate)
        mixer_cfg = dict(
            self.arch.mixer_cfg,
            corners=corners,
            geometry=geometry,
            recurrence=recurrence,
            class_token=class_token,
            backend=scan_backend,
        )
        self.stages = self._build_stages(drop_path_rate, norm_cfg, mixer_cfg)
        strides = PYRAMID_STRIDES
        if not self.arch.is_pyramid:
            strides = (patch_size or self.arch.patch_size,) * 4
        self.add_output_norms(norm_cfg, self.arch.widths, strides)
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
        return self.drop_after_pos(self.class_token(self.pos_embed(self.patch_embed(x))))

    def _build_patches(
        self,
        in_channels: int,
        img_size: int | tuple[int, int],
        patch_size: int | None,
        class_token: str,
    ) -> None:
        """Build the patches of a plain model, their positions and the class tokens."""
        patch_size = patch_size or self.arch.patch_size
        self.patch_embed = PatchMap(in_channels, self.embed_dims, patch_size, img_size)
        grid_size = self.patch_embed.init_out_size
        self.pos_embed = PositionEmbedding(self.embed_dims, grid_size)
        self.class_token = build_class_token(class_token, self.embed_dims, grid_size)

    def _build_stages(self, drop_path_rate: float, norm_cfg: dict, mixer_cfg: dict) -> ModuleList:
        """The stages up to the last output."""
        arch, stages = self.arch, ModuleList()
        rates = drop_path_rates(arch.depths, drop_path_rate)
        for i, width in enumerate(arch.widths[: self.stages_built]):
            stage = Stage(with_cp=self.with_cp)
            if arch.is_pyramid and i > 0:
                stage.append(Downsample(arch.widths[i - 1], width, norm_cfg))
            first = sum(arch.depths[:i])
            for k in range(first, first + arch.depths[i]):
                cfg = dict(mixer_cfg, scans=arch.scans and arch.scans[k])
                stage.append(V2MBlock(width, next(rates), norm_cfg, cfg, arch.ffn_ratio))
            stages.append(stage)
        return stages
