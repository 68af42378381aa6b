"""The base class of VMamba and EfficientVMamba."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.model import ModuleList
from torch import nn

from ..layers import Stage
from .staged import LINEAR_INIT, PYRAMID_STRIDES, StagedBackbone, checks_settings, drop_path_rates
from .zoo import look_up_arch

__all__ = ['HierarchicalBackbone']


class HierarchicalBackbone(StagedBackbone):
    """A backbone of four stages, each with half the resolution and twice the width of the last one.

    Images may have any size and aspect ratio. A subclass names its :attr:`ARCH_ZOO` and builds the
    parts.

    Attributes:
        arch: The sizes.

    Args:
        arch: A name or a dict of sizes; see the subclass. Defaults to ``'tiny'``.
        in_channels: Channels of the image. Defaults to 3.
        out_indices: Stages behind which there are outputs, an int or a sequence of ints. Negative
            numbers count from the last stage. Stages behind the last output are not built. Defaults
            to -1.
        out_type: ``'avg_featmap'``, the mean over the map, (B, D); ``'featmap'``, the map,
            (B, D, H, W); ``'raw'``, its tokens row by row, (B, L, D); ``'cls_token'``, as
            ``'avg_featmap'``. Defaults to ``'avg_featmap'``.
        drop_path_rate: Rate of stochastic depth of the last block; rates grow linearly from 0.
            Defaults to 0.
        frozen_stages: -1 freezes nothing, 0 the stem, and k > 0 also the first k stages. What is
            frozen is also in eval mode. Defaults to -1.
        norm_eval: Keep BatchNorm layers, if there are any, in eval mode. Defaults to False.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
            Defaults to False.
        norm_cfg: Norms of the model, except for the BatchNorm layers of convolutions. Defaults to
            ``dict(type='SameDtypeLN')``.
        scan_backend: Backend of the scan operators; see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`. Defaults to a truncated normal
            distribution (standard deviation 0.02) for linear layers; the scans keep their own
            initialisation.

    Raises:
        ValueError: If a setting is impossible. :meth:`check_settings` raises it without building.
        TypeError: If there is no such setting.
    """

    @checks_settings
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
        super().__init__(
            in_channels,
            out_indices,
            out_type,
            frozen_stages,
            norm_eval,
            with_cp,
            init_cfg or LINEAR_INIT,
        )
        self.arch: Any = look_up_arch(arch, self.ARCH_ZOO)
        self.norm_cfg = norm_cfg or dict(type='SameDtypeLN')
        self.scan_backend = scan_backend
        widths = [self.arch.embed_dims * 2**i for i in range(4)]
        self.patch_embed = self.build_stem(widths[0])
        rates = drop_path_rates(self.arch.depths, drop_path_rate)
        self.stages = ModuleList()
        for i, width in enumerate(widths[: self.stages_built]):
            halving = [self.build_halving(widths[i - 1], width)] if i else []
            blocks = (self.build_block(i, width, next(rates)) for _ in range(self.arch.depths[i]))
            self.stages.append(Stage(*halving, *blocks, with_cp=self.with_cp))
        self.add_output_norms(self.norm_cfg, widths, PYRAMID_STRIDES)
        self.freeze_stages()

    @abstractmethod
    def build_stem(self, width: int) -> nn.Module:
        """Build the modules from an image, (B, in_channels, H, W), to the first stage's map."""

    @abstractmethod
    def build_halving(self, before: int, width: int) -> nn.Module:
        """Build the modules that halve the map of one stage for the next one.

        Args:
            before: Width of the stage in front.
            width: Width of the stage behind.
        """

    @abstractmethod
    def build_block(self, stage: int, width: int, rate: float) -> nn.Module:
        """Build the next block of a stage.

        Args:
            stage: The stage, counted from 0.
            width: Its width.
            rate: The block's rate of stochastic depth.
        """

    @classmethod
    def check_values(cls, values: dict[str, Any]) -> None:
        """See :meth:`StagedBackbone.check_values`."""
        look_up_arch(values['arch'], cls.ARCH_ZOO)

    def stem(self) -> Iterator[nn.Module]:
        """See :meth:`StagedBackbone.stem`."""
        yield self.patch_embed
