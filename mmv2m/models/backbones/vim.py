"""The Vim backbone."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from mmv2m.registry import MODELS

from ..layers import MeanToken, MiddleToken, MixerBlock, PatchMap, PositionEmbedding, ScanMixer
from ..layers.checks import check_choices
from .sequence_arch import SequenceArch
from .settings import OUT_FEATURES, check_sizes
from .staged import StagedBackbone, checks_settings
from .zoo import look_up_arch

__all__ = ['Vim']

ARCH_ZOO: dict[str, SequenceArch] = {
    **dict.fromkeys(('t', 'tiny'), SequenceArch(embed_dims=192, depths=(6, 6, 6, 6))),
    **dict.fromkeys(('s', 'small'), SequenceArch(embed_dims=384, depths=(6, 6, 6, 6))),
    **dict.fromkeys(('b', 'base'), SequenceArch(embed_dims=768, depths=(6, 6, 6, 6))),
}
"""The published models, by name."""

DRAWN_STEPS = ('h',)
"""Scans whose time steps start as in Mamba.

In the authors' code, the time step's bias of the backward scan starts at zero instead, and their
results were trained with that.
"""


@MODELS.register_module()
class Vim(StagedBackbone):
    """Vision Mamba (https://arxiv.org/abs/2401.09417) as its authors last published it.

    It has four stages of blocks at one resolution. Each block runs Mamba's state space model over
    the sequence of patches, forwards and backwards. Each direction has its own parameters, and
    there is no MLP. The class token stands in the middle of the sequence. Images may have any size
    and aspect ratio. Images that patches do not cover exactly are padded at the bottom and the
    right. Positions are interpolated, at run time and when a checkpoint of another size is loaded.

    Args:
        arch: ``'tiny' | 'small' | 'base'`` (Vim-Ti, Vim-S and Vim-B) or a dict with ``embed_dims``
            and ``depths`` (four numbers), and optionally ``expand``, ``state_dims``,
            ``conv_size``, ``dt_rank``. Defaults to ``'tiny'``.
        img_size: The usual image size, an int or (H, W), in pixels. Defaults to 224.
        patch_size: Side of a patch in pixels. Defaults to 16.
        stride: Pixels from one patch to the next; None for ``patch_size``. The models tuned at
            finer granularity (Vim-Ti+ and Vim-S+) have 8. Defaults to None.
        in_channels: Channels of the image. Defaults to 3.
        class_token: ``'middle'``, or ``'mean'`` for no class token, as dense tasks have it.
            Defaults to ``'middle'``.
        out_indices: Stages behind which there are outputs, an int or a sequence of ints. Negative
            numbers count from the last stage. Stages behind the last output are not built. Defaults
            to -1.
        out_type: ``'cls_token'``, the class token or the mean, (B, D); ``'featmap'``, the patches,
            (B, D, H, W); ``'avg_featmap'``, their mean, (B, D); ``'raw'``, all tokens row by row,
            the class token included, (B, L, D). Defaults to ``'cls_token'``.
        out_features: ``'stream'``: the residual stream behind a norm; ``'mixer'``: what the last
            block's mixer adds to it, without a norm, which the authors' UPerNet takes. Defaults to
            ``'stream'``.
        drop_rate: Dropout after the position embedding. Defaults to 0.
        drop_path_rate: Rate of stochastic depth of the last block; rates grow linearly from 0.
            Defaults to 0.
        frozen_stages: -1 freezes nothing, 0 patches, positions and the class token, and k > 0 also
            the first k stages. What is frozen is also in eval mode. Defaults to -1.
        norm_eval: Keep BatchNorm layers in eval mode; this backbone has none of its own. Defaults
            to False.
        with_cp: Recompute each block in the backward pass instead of keeping its activations.
            Defaults to False.
        norm_cfg: Norm of the blocks and the outputs. Defaults to
            ``dict(type='RMSNorm', eps=1e-5)``.
        scan_backend: Backend of the scan operators; see :mod:`mmv2m.ops`. Defaults to ``'auto'``.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If a setting is impossible. :meth:`check_settings` raises it without building.
        TypeError: If there is no such setting.

    Example:
        >>> features = Vim('tiny')(torch.rand(1, 3, 224, 224))
        >>> features[0].shape
        torch.Size([1, 192])
    """

    ARCH_ZOO = ARCH_ZOO

    @checks_settings
    def __init__(
        self,
        arch: str | dict = 'tiny',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        stride: int | None = None,
        in_channels: int = 3,
        class_token: str = 'middle',
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'cls_token',
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
            in_channels, out_indices, out_type, frozen_stages, norm_eval, with_cp, init_cfg
        )
        self.arch = look_up_arch(arch, ARCH_ZOO)
        self.embed_dims = self.arch.embed_dims
        norm_cfg = norm_cfg or dict(type='RMSNorm', eps=1e-5)

        self.patch_embed = PatchMap(in_channels, self.embed_dims, patch_size, img_size, stride)
        self.pos_embed = PositionEmbedding(self.embed_dims, self.patch_embed.init_out_size)
        self.class_token = MiddleToken(self.embed_dims) if class_token == 'middle' else MeanToken()
        self.drop_after_pos = nn.Dropout(drop_rate)
        mixer_cfg = dict(self.arch.mixer_cfg, drawn_steps=DRAWN_STEPS, backend=scan_backend)

        def block(rate: float) -> MixerBlock:
            mixer = ScanMixer(self.embed_dims, ('h', 'h_flip'), **mixer_cfg)
            return MixerBlock(self.embed_dims, mixer, rate, norm_cfg, backend=scan_backend)

        self.stages = self.plain_stages(self.arch.depths, drop_path_rate, block)
        self.out_features = out_features
        norms = norm_cfg if out_features == 'stream' else None
        strides = [self.patch_embed.stride] * 4
        self.add_output_norms(norms, [self.embed_dims] * 4, strides)
        self.freeze_stages()

    @classmethod
    def check_values(cls, values: dict[str, Any]) -> None:
        """See :meth:`StagedBackbone.check_values`."""
        look_up_arch(values['arch'], ARCH_ZOO)
        check_choices(class_token=(values['class_token'], ('middle', 'mean')))
        check_sizes(values['img_size'], values['patch_size'])
        check_choices(out_features=(values['out_features'], OUT_FEATURES))
        if values['stride'] is not None:
            check_choices(stride=(values['stride'], range(1, values['patch_size'] + 1)))

    def stem(self) -> Iterator[nn.Module]:
        """See :meth:`StagedBackbone.stem`."""
        yield from (self.patch_embed, self.pos_embed, self.class_token, self.drop_after_pos)

    def embed(self, x: Tensor) -> Tensor:
        """See :meth:`StagedBackbone.embed`. With a class token, the map has a height of 1."""
        return self.drop_after_pos(self.class_token(self.pos_embed(self.patch_embed(x))))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See :meth:`StagedBackbone.forward`."""
        outs = super().forward(x)
        if self.out_type != 'featmap':
            return outs
        # The class token had turned the map into a sequence of height 1.
        grid_size = self.patch_embed.grid_size((x.shape[2], x.shape[3]))
        return tuple(y.flatten(2).unflatten(2, grid_size) for y in outs)
