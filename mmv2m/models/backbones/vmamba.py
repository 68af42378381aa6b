"""The VMamba backbone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.model import ModuleList, Sequential
from torch import Tensor, nn

from mmv2m.registry import MODELS

from ..layers import ConvStem, CrossScanMixer, Downsample, MixerBlock
from .staged import LINEAR_INIT, StagedBackbone, drop_path_rates
from .zoo import StagedArch, look_up_arch

__all__ = ['VMamba']


@dataclass(frozen=True)
class Arch(StagedArch):
    """Sizes of a VMamba: the width doubles from stage to stage.

    Attributes:
        embed_dims: Width of the first stage, D.
        depths: Blocks in each of the four stages.
        expand: Inner width of the mixers over D.
        state_dims: States a channel, N.
        ffn_ratio: Hidden width of the MLPs over D.
    """

    expand: int = 1
    state_dims: int = 1
    ffn_ratio: int = 4


ARCH_ZOO: dict[str, Arch] = {
    **dict.fromkeys(('t', 'tiny'), Arch(embed_dims=96, depths=(2, 2, 8, 2))),
    **dict.fromkeys(('s', 'small'), Arch(embed_dims=96, depths=(2, 2, 15, 2), expand=2)),
}
"""VMamba-T [s1l8] and VMamba-S [s2l15], those of the V2M paper's tables."""


@MODELS.register_module()
class VMamba(StagedBackbone):
    """VMamba (https://arxiv.org/abs/2401.10166) as its authors last published it.

    Four stages of halving resolution; each block has a cross-scan mixer, with one state a channel
    and without a gate, and an MLP. Any image size and aspect ratio goes in.

    Args:
        arch: ``'tiny' | 'small'`` (VMamba-T [s1l8] and VMamba-S [s2l15]) or a dict with
            ``embed_dims`` and ``depths`` (four numbers), and optionally ``expand``,
            ``state_dims``, ``ffn_ratio``. Defaults to ``'tiny'``.
        in_channels: Channels of the image. Defaults to 3.
        out_indices: Output after which stages, an int or a sequence; negative ones count from the
            last stage. Stages behind the last output are not built. Defaults to -1.
        out_type: ``'avg_featmap'``, the mean over the map, (B, D); ``'featmap'``, the map,
            (B, D, H, W); ``'raw'``, its tokens row by row, (B, L, D); ``'cls_token'``, as
            ``'avg_featmap'``. Defaults to ``'avg_featmap'``.
        drop_path_rate: Stochastic depth of the last block; it grows linearly. Defaults to 0.
        frozen_stages: -1: nothing frozen; 0: the stem; k: also the first k stages, set to eval
            mode. Defaults to -1.
        norm_eval: Keep BatchNorm layers, if ``norm_cfg`` brings any, in eval mode. Defaults to
            False.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
            Defaults to False.
        norm_cfg: All norms. Defaults to ``dict(type='SameDtypeLN')``.
        scan_backend: Backend of the scan operators, see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`. Defaults to a truncated normal
            distribution (0.02) for linear layers; the scans keep their own initialisation.

    Raises:
        ValueError: If a setting is impossible; :meth:`check_settings` says so without building.
        TypeError: If there is no such setting.

    Example:
        >>> features = VMamba('tiny', out_type='featmap')(torch.rand(1, 3, 224, 320))
        >>> features[0].shape
        torch.Size([1, 768, 7, 10])
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

        self.patch_embed = ConvStem(in_channels, widths[0], norm_cfg)
        rates = drop_path_rates(self.arch.depths, drop_path_rate)
        self.stages = ModuleList()
        for i in range(self.stages_built):
            blocks: list[nn.Module] = [Downsample(widths[i - 1], widths[i], norm_cfg)] if i else []
            for _ in range(self.arch.depths[i]):
                mixer = CrossScanMixer(
                    widths[i], self.arch.expand, self.arch.state_dims, norm_cfg, scan_backend
                )
                blocks.append(
                    MixerBlock(
                        widths[i],
                        mixer,
                        next(rates),
                        norm_cfg,
                        self.arch.ffn_ratio,
                        scan_backend,
                    )
                )
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
        return self.patch_embed(x)
