"""The PlainMamba backbone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmcv.cnn import ConvModule
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import ModuleList, Sequential
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from mmv2m.registry import MODELS

from ..layers import MapSequential, MixerBlock, PositionEmbedding, SnakeScanMixer
from .settings import check_sizes
from .staged import LINEAR_INIT, StagedBackbone, checks_settings
from .zoo import StagedArch, look_up_arch

__all__ = ['PlainMamba']

STEM_WIDTH, PATCH_SIZE = 64, 16


@dataclass(frozen=True)
class Arch(StagedArch):
    """Sizes of a PlainMamba, which has four stages at one resolution.

    Attributes:
        embed_dims: Width, D.
        depths: Blocks in each of the four stages.
        expand: Inner width over D.
        state_dims: States per channel, N.
        conv_size: Side of the blocks' depthwise convolutions.
        stem_convs: 3 x 3 convolutions in the stem.
        conv_behind_first: Whether a depthwise convolution follows the first block.
    """

    expand: int = 2
    state_dims: int = 16
    conv_size: int = 7
    stem_convs: int = 2
    conv_behind_first: bool = False


ARCH_ZOO: dict[str, Arch] = {
    'L1': Arch(embed_dims=192, depths=(6, 6, 6, 6), stem_convs=1, conv_behind_first=True),
    'L2': Arch(embed_dims=384, depths=(6, 6, 6, 6)),
    'L3': Arch(embed_dims=448, depths=(9, 9, 9, 9)),
}
"""The models of the paper's Table 1."""


@MODELS.register_module()
class PlainMamba(StagedBackbone):
    """PlainMamba (https://arxiv.org/abs/2403.17695), a Mamba without hierarchy.

    It has a convolutional stem, 8 x 8 patches of its map, and blocks that scan their tokens in four
    continuous orders. Images may have any size and aspect ratio. Sides that 16 does not divide are
    padded at the bottom and the right. Positions are interpolated, at run time and when a
    checkpoint of another size is loaded.

    Args:
        arch: ``'L1' | 'L2' | 'L3'`` or a dict with ``embed_dims`` and ``depths`` (four numbers),
            and optionally ``expand``, ``state_dims``, ``conv_size``, ``stem_convs``,
            ``conv_behind_first``. Defaults to ``'L1'``.
        img_size: The usual image size, an int or (H, W), in pixels. Defaults to 224.
        in_channels: Channels of the image. Defaults to 3.
        out_indices: Stages behind which there are outputs, an int or a sequence of ints. Negative
            numbers count from the last stage. Stages behind the last output are not built. Defaults
            to -1.
        out_type: ``'avg_featmap'``, the mean over the map, (B, D); ``'featmap'``, the map,
            (B, D, H, W); ``'raw'``, its tokens row by row, (B, L, D); ``'cls_token'``, as
            ``'avg_featmap'``. Defaults to ``'avg_featmap'``.
        drop_path_rate: Rate of stochastic depth of the last block; rates grow linearly from 0.
            Defaults to 0.
        frozen_stages: -1 freezes nothing, 0 the stem and the positions, and k > 0 also the first k
            stages. What is frozen is also in eval mode. Defaults to -1.
        norm_eval: Keep the BatchNorm layers of the stem, and the one in the first stage of L1, in
            eval mode. Defaults to False.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
            Defaults to False.
        norm_cfg: Norms of the blocks and the outputs. Defaults to ``dict(type='SameDtypeLN')``, and
            ``eps=1e-6`` in the outputs' norms.
        scan_backend: Backend of the scan operators; see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`. Defaults to a truncated normal
            distribution (standard deviation 0.02) for linear layers, including those of the scans.
            The time steps' biases start at zero, as in the authors' config.

    Raises:
        ValueError: If a setting is impossible. :meth:`check_settings` raises it without building.
        TypeError: If there is no such setting.

    Example:
        >>> features = PlainMamba('L1', out_type='featmap')(torch.rand(1, 3, 224, 320))
        >>> features[0].shape
        torch.Size([1, 192, 14, 20])
    """

    ARCH_ZOO = ARCH_ZOO

    @checks_settings
    def __init__(
        self,
        arch: str | dict = 'L1',
        img_size: int | tuple[int, int] = 224,
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
        self.arch = look_up_arch(arch, ARCH_ZOO)
        self.embed_dims = self.arch.embed_dims
        self.stem_convs = self._build_stem_convs()
        self.patch_embed = PatchEmbed(
            STEM_WIDTH,
            self.embed_dims,
            kernel_size=PATCH_SIZE // 2,
            stride=None,
            input_size=tuple(-(-side // 2) for side in to_2tuple(img_size)),
        )
        self.pos_embed = PositionEmbedding(self.embed_dims, self.patch_embed.init_out_size)
        self.stages = self._build_stages(drop_path_rate, norm_cfg, scan_backend)
        norm_cfg = norm_cfg or dict(type='SameDtypeLN', eps=1e-6)
        self.add_output_norms(norm_cfg, [self.embed_dims] * 4, [PATCH_SIZE] * 4)
        self.freeze_stages()

    @classmethod
    def check_values(cls, values: dict[str, Any]) -> None:
        """See :meth:`StagedBackbone.check_values`."""
        look_up_arch(values['arch'], ARCH_ZOO)
        check_sizes(values['img_size'], PATCH_SIZE)

    def stem(self) -> Iterator[nn.Module]:
        """See :meth:`StagedBackbone.stem`."""
        yield from (self.stem_convs, self.patch_embed, self.pos_embed)

    def embed(self, x: Tensor) -> Tensor:
        """See :meth:`StagedBackbone.embed`."""
        # The tokens become contiguous in this way, so that no norm has to copy their stream.
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        x, grid_size = self.patch_embed(self.stem_convs(x))
        return self.class_token(self.pos_embed(x.unflatten(1, grid_size)))

    def _build_stem_convs(self) -> Sequential:
        common = dict(
            bias=False,
            norm_cfg=dict(type='BN'),
            act_cfg=dict(type='ReLU'),
            inplace=False,  # full backward hooks allow no change of what they see
        )
        convs = [ConvModule(self.in_channels, STEM_WIDTH, 7, stride=2, padding=3, **common)]
        for _ in range(self.arch.stem_convs):
            convs.append(ConvModule(STEM_WIDTH, STEM_WIDTH, 3, padding=1, **common))
        return Sequential(*convs)

    def _build_stages(
        self, drop_path_rate: float, norm_cfg: dict | None, scan_backend: str
    ) -> ModuleList:
        """The stages up to the last output."""
        arch, width = self.arch, self.embed_dims
        grid_size = self.patch_embed.init_out_size

        def block(rate: float) -> MixerBlock:
            sizes = (arch.expand, arch.state_dims, arch.conv_size)
            mixer = SnakeScanMixer(width, grid_size, *sizes, scan_backend)
            return MixerBlock(width, mixer, rate, norm_cfg, backend=scan_backend)

        stages = self.plain_stages(arch.depths, drop_path_rate, block)
        if arch.conv_behind_first:
            stages[0].insert(1, self._build_local_conv())
        return stages

    def _build_local_conv(self) -> MapSequential:
        width = self.embed_dims
        return MapSequential(
            ConvModule(
                width,
                width,
                3,
                padding=1,
                groups=width,
                bias=False,
                norm_cfg=dict(type='BN'),
                act_cfg=dict(type='GELU'),
            )
        )
