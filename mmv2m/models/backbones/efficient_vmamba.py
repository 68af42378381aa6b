"""The EfficientVMamba backbone."""

from dataclasses import dataclass

from mmcv.cnn.bricks.transformer import PatchEmbed
from torch import Tensor

from mmv2m.registry import MODELS

from ..layers import DualMixer, InvertedResidual, MapPatchMerging, MixerBlock
from .hierarchical import HierarchicalBackbone
from .zoo import StagedArch

__all__ = ['EfficientVMamba']

SCANNED_STAGES = 2


@dataclass(frozen=True)
class Arch(StagedArch):
    """Sizes of an EfficientVMamba. The width doubles from stage to stage.

    Attributes:
        embed_dims: Width of the first stage, D.
        depths: Blocks in each of the four stages.
        expand: Inner width of the scans over D.
        state_dims: States per channel, N.
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
class EfficientVMamba(HierarchicalBackbone):
    """EfficientVMamba (https://arxiv.org/abs/2403.09977).

    The first two stages have blocks with atrous scans beside a convolution. The last two have
    inverted residuals. Sides that the strides do not divide are padded at the bottom and the right.

    Args:
        arch: ``'tiny' | 'small' | 'base'`` or a dict with ``embed_dims`` and ``depths`` (four
            numbers), and optionally ``expand``, ``state_dims``, ``conv_expand``. Defaults to
            ``'tiny'``.
        **settings: ``in_channels``, ``out_indices``, ``out_type``, ``drop_path_rate``,
            ``frozen_stages``, ``norm_eval``, ``with_cp``, ``norm_cfg``, ``scan_backend`` and
            ``init_cfg``, as :class:`HierarchicalBackbone` describes them.

    Raises:
        ValueError: If a setting is impossible.
        TypeError: If there is no such setting.

    Example:
        >>> features = EfficientVMamba('tiny', out_type='featmap')(torch.rand(1, 3, 224, 320))
        >>> features[0].shape
        torch.Size([1, 384, 7, 10])
    """

    ARCH_ZOO = ARCH_ZOO

    def build_stem(self, width: int) -> PatchEmbed:
        """See :meth:`HierarchicalBackbone.build_stem`."""
        return PatchEmbed(self.in_channels, width, kernel_size=4, stride=4, norm_cfg=self.norm_cfg)

    def build_halving(self, before: int, width: int) -> MapPatchMerging:
        """See :meth:`HierarchicalBackbone.build_halving`."""
        return MapPatchMerging(before, width, norm_cfg=self.norm_cfg)

    def build_block(self, stage: int, width: int, rate: float) -> MixerBlock | InvertedResidual:
        """See :meth:`HierarchicalBackbone.build_block`."""
        if stage >= SCANNED_STAGES:
            return InvertedResidual(width, rate, self.arch.conv_expand)
        scan_cfg = dict(
            expand=self.arch.expand, states=self.arch.state_dims, backend=self.scan_backend
        )
        mixer = DualMixer(width, scan_cfg, self.norm_cfg)
        return MixerBlock(width, mixer, rate, self.norm_cfg, backend=self.scan_backend)

    def embed(self, x: Tensor) -> Tensor:
        """See :meth:`StagedBackbone.embed`."""
        # The tokens become contiguous in this way, so that no norm has to copy their stream.
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        tokens, size = self.patch_embed(x)
        return self.class_token(tokens.unflatten(1, size))
