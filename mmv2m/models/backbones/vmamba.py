"""The VMamba backbone."""

from dataclasses import dataclass

from torch import Tensor

from mmv2m.registry import MODELS

from ..layers import ConvStem, CrossScanMixer, Downsample, MixerBlock
from .hierarchical import HierarchicalBackbone
from .zoo import StagedArch

__all__ = ['VMamba']


@dataclass(frozen=True)
class Arch(StagedArch):
    """Sizes of a VMamba. The width doubles from stage to stage.

    Attributes:
        embed_dims: Width of the first stage, D.
        depths: Blocks in each of the four stages.
        expand: Inner width of the mixers over D.
        state_dims: States per channel, N.
        ffn_ratio: Hidden width of the MLPs over D.
    """

    expand: int = 1
    state_dims: int = 1
    ffn_ratio: int = 4


ARCH_ZOO: dict[str, Arch] = {
    **dict.fromkeys(('t', 'tiny'), Arch(embed_dims=96, depths=(2, 2, 8, 2))),
    **dict.fromkeys(('s', 'small'), Arch(embed_dims=96, depths=(2, 2, 15, 2), expand=2)),
    **dict.fromkeys(('b', 'base'), Arch(embed_dims=128, depths=(2, 2, 15, 2), expand=2)),
    'tiny-s2l5': Arch(embed_dims=96, depths=(2, 2, 5, 2), expand=2),
    'small-s1l20': Arch(embed_dims=96, depths=(2, 2, 20, 2)),
    'base-s1l20': Arch(embed_dims=128, depths=(2, 2, 20, 2)),
}
"""The published models, by name.

The V2M paper's tables compare with ``'tiny'`` (VMamba-T [s1l8]) and ``'small'`` (VMamba-S [s2l15]).
"""


@MODELS.register_module()
class VMamba(HierarchicalBackbone):
    """VMamba (https://arxiv.org/abs/2401.10166) as its authors last published it.

    Each block has a cross-scan mixer, with one state for each channel and no gate, and an MLP.

    Args:
        arch: ``'tiny' | 'small' | 'base'`` (VMamba-T [s1l8], VMamba-S [s2l15] and VMamba-B
            [s2l15]), ``'tiny-s2l5' | 'small-s1l20' | 'base-s1l20'``, which are published too, or a
            dict with ``embed_dims`` and ``depths`` (four numbers), and optionally ``expand``,
            ``state_dims``, ``ffn_ratio``. Defaults to ``'tiny'``.
        **settings: ``in_channels``, ``out_indices``, ``out_type``, ``drop_path_rate``,
            ``frozen_stages``, ``norm_eval``, ``with_cp``, ``norm_cfg``, ``scan_backend`` and
            ``init_cfg``, as :class:`HierarchicalBackbone` describes them.

    Raises:
        ValueError: If a setting is impossible.
        TypeError: If there is no such setting.

    Example:
        >>> features = VMamba('tiny', out_type='featmap')(torch.rand(1, 3, 224, 320))
        >>> features[0].shape
        torch.Size([1, 768, 7, 10])
    """

    ARCH_ZOO = ARCH_ZOO

    def build_stem(self, width: int) -> ConvStem:
        """See :meth:`HierarchicalBackbone.build_stem`."""
        return ConvStem(self.in_channels, width, self.norm_cfg)

    def build_halving(self, before: int, width: int) -> Downsample:
        """See :meth:`HierarchicalBackbone.build_halving`."""
        return Downsample(before, width, self.norm_cfg)

    def build_block(self, stage: int, width: int, rate: float) -> MixerBlock:
        """See :meth:`HierarchicalBackbone.build_block`."""
        sizes = (self.arch.expand, self.arch.state_dims)
        mixer = CrossScanMixer(width, *sizes, self.norm_cfg, self.scan_backend)
        ratio = self.arch.ffn_ratio
        return MixerBlock(width, mixer, rate, self.norm_cfg, ratio, self.scan_backend)

    def embed(self, x: Tensor) -> Tensor:
        """See :meth:`StagedBackbone.embed`."""
        return self.class_token(self.patch_embed(x))
