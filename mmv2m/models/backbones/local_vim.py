"""The LocalVim backbone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmv2m.registry import MODELS

from ..layers import (
    LOCAL_SCANS,
    MixerBlock,
    PatchMap,
    PositionEmbedding,
    RotaryPosition,
    ScanMixer,
    parse_scans,
)
from ..layers.checks import check_choices
from .sequence_arch import SequenceArch
from .settings import OUT_FEATURES, check_sizes
from .staged import LINEAR_INIT, StagedBackbone, checks_settings
from .zoo import check_scans, look_up_arch

__all__ = ['LocalVim']


WITHOUT_SEARCH = ('h', 'h_flip', 'w2', 'w2_flip')
"""Scans of each block of an arch that names no scans."""


@dataclass(frozen=True)
class LocalArch(SequenceArch):
    """Sizes of a LocalVim, and the scans of its blocks.

    Attributes:
        scans: One sequence of names of scans for each block; see
            :func:`~mmv2m.models.layers.parse_scans`. By default, every block scans rows and windows
            of 2 x 2 tokens, both forwards and backwards.
    """

    scans: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_dims % 4:
            raise ValueError(
                'arch: embed_dims must be a multiple of 4 for rotary positions, but is '
                f'{self.embed_dims}'
            )
        blocks = sum(self.depths)
        scans = (WITHOUT_SEARCH,) * blocks if self.scans is None else self.scans
        object.__setattr__(self, 'scans', check_scans(scans, blocks, parse_scans))


ARCH_ZOO: dict[str, LocalArch] = {
    **dict.fromkeys(('t', 'tiny'), LocalArch(192, (5, 5, 5, 5), scans=LOCAL_SCANS['tiny'])),
    **dict.fromkeys(('s', 'small'), LocalArch(384, (5, 5, 5, 5), scans=LOCAL_SCANS['small'])),
}
"""The published models, by name."""


@MODELS.register_module()
class LocalVim(StagedBackbone):
    """LocalVim (https://arxiv.org/abs/2403.09338): Vim with scans inside windows.

    It has four stages of blocks at one resolution. Each block runs Mamba's state space model over
    the patches in four orders, over the whole map or window by window. A search has chosen the
    orders of each block, and attention over channels weighs their outputs. There is no class token.
    Rotary positions turn the residual stream in front of every block. Images may have any size and
    aspect ratio. Images that patches do not cover exactly, and maps that windows do not cover
    exactly, are padded at the bottom and the right. Positions are interpolated, at run time and
    when a checkpoint of another size is loaded.

    Args:
        arch: ``'tiny' | 'small'`` (LocalVim-T and LocalVim-S) or a dict with ``embed_dims`` and
            ``depths`` (four numbers), and optionally ``scans``, ``expand``, ``state_dims``,
            ``conv_size``, ``dt_rank``. Defaults to ``'tiny'``.
        img_size: The usual image size, an int or (H, W), in pixels. Defaults to 224.
        patch_size: Side of a patch in pixels. Defaults to 16.
        in_channels: Channels of the image. Defaults to 3.
        out_indices: Stages behind which there are outputs, an int or a sequence of ints. Negative
            numbers count from the last stage. Stages behind the last output are not built. Defaults
            to -1.
        out_type: ``'avg_featmap'``, the mean over the map, (B, D); ``'featmap'``, the map,
            (B, D, H, W); ``'raw'``, its tokens row by row, (B, L, D); ``'cls_token'``, as
            ``'avg_featmap'``. Defaults to ``'avg_featmap'``.
        out_features: ``'stream'``: the residual stream; ``'mixer'``: what the last block's mixer
            adds to it, behind a LayerNorm, which the authors' UPerNet takes. Defaults to
            ``'stream'``.
        drop_rate: Dropout after the position embedding. Defaults to 0.
        drop_path_rate: Rate of stochastic depth of the last block; rates grow linearly from 0.
            Defaults to 0.
        frozen_stages: -1 freezes nothing, 0 patches and positions, and k > 0 also the first k
            stages. What is frozen is also in eval mode. Defaults to -1.
        norm_eval: Keep BatchNorm layers in eval mode; this backbone has none of its own. Defaults
            to False.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
            Defaults to False.
        norm_cfg: Norm of the blocks and the outputs. Defaults to
            ``dict(type='RMSNorm', eps=1e-5)``.
        scan_backend: Backend of the scan operators; see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`. Defaults to a truncated normal
            distribution (standard deviation 0.02) for linear layers, including those of the time
            steps, as in the authors' code.

    Raises:
        ValueError: If a setting is impossible. :meth:`check_settings` raises it without building.
        TypeError: If there is no such setting.

    Example:
        >>> features = LocalVim('tiny', out_type='featmap')(torch.rand(1, 3, 224, 320))
        >>> features[0].shape
        torch.Size([1, 192, 14, 20])
    """

    ARCH_ZOO = ARCH_ZOO

    @checks_settings
    def __init__(
        self,
        arch: str | dict = 'tiny',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'avg_featmap',
        out_features: str = 'stream',
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
        norm_cfg = norm_cfg or dict(type='RMSNorm', eps=1e-5)

        self.patch_embed = PatchMap(in_channels, self.embed_dims, patch_size, img_size)
        grid_size = self.patch_embed.init_out_size
        self.pos_embed = PositionEmbedding(self.embed_dims, grid_size)
        self.rotary = RotaryPosition(self.embed_dims, grid_size)
        self.drop_after_pos = nn.Dropout(drop_rate)
        mixer_cfg = dict(self.arch.mixer_cfg, attention=True, backend=scan_backend)
        scans = iter(self.arch.scans or ())

        def block(rate: float) -> MixerBlock:
            mixer = ScanMixer(self.embed_dims, next(scans), **mixer_cfg)
            return MixerBlock(self.embed_dims, mixer, rate, norm_cfg, backend=scan_backend)

        self.stages = self.plain_stages(self.arch.depths, drop_path_rate, block)
        self.out_features = out_features
        out_norm_cfg = norm_cfg if out_features == 'stream' else dict(type='LN')
        self.add_output_norms(out_norm_cfg, [self.embed_dims] * 4, [patch_size] * 4)
        self.freeze_stages()

    @classmethod
    def check_values(cls, values: dict[str, Any]) -> None:
        """See :meth:`StagedBackbone.check_values`."""
        look_up_arch(values['arch'], ARCH_ZOO)
        check_sizes(values['img_size'], values['patch_size'])
        check_choices(out_features=(values['out_features'], OUT_FEATURES))

    def stem(self) -> Iterator[nn.Module]:
        """See :meth:`StagedBackbone.stem`."""
        yield from (self.patch_embed, self.pos_embed, self.rotary, self.drop_after_pos)

    def embed(self, x: Tensor) -> Tensor:
        """See :meth:`StagedBackbone.embed`."""
        return self.drop_after_pos(self.class_token(self.pos_embed(self.patch_embed(x))))

    def stage_arguments(self) -> tuple[nn.Module, ...]:
        """See :meth:`StagedBackbone.stage_arguments`; each block's map is turned first."""
        return (self.rotary,)
