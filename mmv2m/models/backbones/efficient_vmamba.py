"""The EfficientVMamba backbone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import ModuleList, Sequential
from torch import Tensor, nn

from mmv2m.registry import MODELS

from ..layers import DualMixer, InvertedResidual, MapPatchMerging, MixerBlock
from .staged import LINEAR_INIT, StagedBackbone, drop_path_rates
from .zoo import StagedArch, look_up_arch

__all__ = ['EfficientVMamba']

SCANNED_STAGES = 2


@dataclass(frozen=True)
class Arch(StagedArch):
    """Sizes of an EfficientVMamba: the width doubles from stage to stage.

    Attributes:
        embed_dims: Width of the first stage, D.
        depths: Blocks in each of the four stages.
        expand: Inner width of the scans over D.
        state_dims: States a channel, N.
        conv_expand: Inner width of the convolutional blocks over D.
    """

    expand: int = 2
    state_dims: int = 16
    conv_expand: int = 4


ARCH_ZOO: dict[str, Arch] = {
    **dict.fromkeys(('t', 'tiny'), Arch(embed_dims=48, depths=(2, 2, 4, 2))),
    **dict.fromkeys(('s', 'small'), Arch(embed_dims=64, depths=(2, 2, 4, 2))),
    **dict.fromkeys(('b', 'base'), Arch(embed_dims=96, depths=(2, 2, 9, 2))),
}
"""The models of the paper's Table 2, with the sizes of the authors' training logs."""


@MODELS.register_module()
class EfficientVMamba(StagedBackbone):
    """EfficientVMamba (https://arxiv.org/abs/2403.09977).

    Four stages of halving resolution: the first two have blocks of atrous scans beside a
    convolution, the last two inverted residuals. Any image size and aspect ratio goes in: sides
    that do not divide are padded at the bottom and the right.

    Args:
        arch: ``'tiny' | 'small' | 'base'`` or a dict with ``embed_dims`` and ``depths`` (four
            numbers), and optionally ``expand``, ``state_dims``, ``conv_expand``. Defaults to
            ``'tiny'``.
        in_channels: Channels of the image. Defaults to 3.
        out_indices: Output after which stages, an int or a sequence; negative ones count from the
            last stage. Stages behind the last output are not built. Defaults to -1.
        out_type: ``'avg_featmap'``, the mean over the map, (B, D); ``'featmap'``, the map,
            (B, D, H, W); ``'raw'``, its tokens row by row, (B, L, D); ``'cls_token'``, as
            ``'avg_featmap'``. Defaults to ``'avg_featmap'``.
        drop_path_rate: Stochastic depth of the last block; it grows linearly. Defaults to 0.
        frozen_stages: -1: nothing frozen; 0: the stem; k: also the first k stages, set to eval
            mode. Defaults to -1.
        norm_eval: Keep the blocks' BatchNorm layers in eval mode. Defaults to False.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
            Defaults to False.
        norm_cfg: All norms but the BatchNorm layers of the convolutions. Defaults to
            ``dict(type='SameDtypeLN')``.
        scan_backend: Backend of the scan operators, see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`. Defaults to a truncated normal
            distribution (0.02) for linear layers; the scans keep their own initialisation.

    Raises:
        ValueError: If a setting is impossible; :meth:`check_settings` says so without building.
        TypeError: If there is no such setting.

    Example:
        >>> features = EfficientVMamba('tiny', out_type='featmap')(torch.rand(1, 3, 224, 320))
        >>> features[0].shape
        torch.Size([1, 384, 7, 10])
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'avg_featmap',
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
            in_channels=in_channels,
            out_indices=out_indices,
            out_type=out_type,
            drop_path_rate=drop_path_rate,
            frozen_stages=frozen_stages,
            norm_cfg=norm_cfg,
            scan_backend=scan_backend,
        )
        super().__init__(
            in_channels,
            out_indices,
            out_type,
            frozen_stages,
            norm_eval,
            with_cp,
            init_cfg or LINEAR_INIT,
        )
        self.arch = look_up_arch(arch, ARCH_ZOO)
        norm_cfg = norm_cfg or dict(type='SameDtypeLN')
        widths = [self.arch.embed_dims * 2**i for i in range(4)]

        self.patch_embed = PatchEmbed(
            in_channels, widths[0], kernel_size=4, stride=4, norm_cfg=norm_cfg
        )
        rates = drop_path_rates(self.arch.depths, drop_path_rate)
        scan_cfg = dict(expand=self.arch.expand, states=self.arch.state_dims, backend=scan_backend)
        self.stages = ModuleList()
        for i in range(self.stages_built):
            blocks: list[nn.Module] = []
            if i:
                blocks.append(MapPatchMerging(widths[i - 1], widths[i], norm_cfg=norm_cfg))
            for _ in range(self.arch.depths[i]):
                if i < SCANNED_STAGES:
                    mixer = DualMixer(widths[i], scan_cfg, norm_cfg)
                    blocks.append(
                        MixerBlock(widths[i], mixer, next(rates), norm_cfg, backend=scan_backend)
                    )
                else:
                    conv_expand = self.arch.conv_expand
                    blocks.append(InvertedResidual(widths[i], next(rates), conv_expand))
            self.stages.append(Sequential(*blocks))
        self.add_output_norms(norm_cfg, widths)
        self.freeze_stages()

    @classmethod
    def check_values(cls, values: dict[str, Any]) -> None:
        """See :meth:`StagedBackbone.check_values`."""
        look_up_arch(values['arch'], ARCH_ZOO)

    def stem(self) -> Iterator[nn.Module]:
        """See :meth:`StagedBackbone.stem`."""
        yield self.patch_embed

    def embed(self, x: Tensor) -> Tensor:
        """See :meth:`StagedBackbone.embed`."""
        # So that the tokens come out contiguous, whose residual stream no norm has to copy.
        tokens, size = self.patch_embed(x.contiguous(memory_format=torch.channels_last))
        return tokens.unflatten(1, size)
