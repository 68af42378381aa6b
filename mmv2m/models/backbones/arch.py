"""The sizes of V2M's models, and the check of a user's own sizes."""

from dataclasses import dataclass
from typing import Any

from ..layers import LOCAL_SCANS, plan_local_groups
from ..layers.corners import MERGES, ORDERS, PROJECTS, SHARES
from .zoo import StagedArch, check_count, check_scans, look_up_arch

__all__ = ['ARCH_ZOO', 'Arch', 'parse_arch']

LAYOUTS = ('plain', 'pyramid')


@dataclass(frozen=True)
class Arch(StagedArch):
    """The sizes and parts of a V2M, which always has four stages.

    Attributes:
        embed_dims: Width of the first stage, D.
        depths: Blocks in each of the four stages.
        layout: ``'plain'`` has patches, positions and class tokens, and one resolution and width.
            ``'pyramid'`` has a convolutional stem to 1/4, no positions and no class tokens.
            Between its stages the resolution halves and the width doubles.
        expand: Inner width over D.
        state_dims: States per channel, N.
        conv_size: Taps of the convolutions.
        dt_rank: Rank of the time step's projection; ``'auto'`` for ceil(D / 16).
        gated: Whether the mixers have gates; see :class:`~mmv2m.models.layers.SS2D`.
        share: The corners that share parameters: ``'all'``, ``'opposite'`` or ``'none'``. With
            ``scans`` it has to be ``'all'``, because each scan shares them with its flip.
        orders: ``'one'`` scans from each corner along one axis and then along the other (Eq. 7).
            ``'both'`` also scans in the other order, with parameters of its own (Eq. 8).
        merge: Whether the results of corners and orders are added (``'sum'``) or averaged
            (``'mean'``).
        projects: With ``'one'``, B of the first scan and C of the second depend on the token (Eq. 9
            to 12). With ``'both'``, B and C of both scans do.
        scans: Names of the scans of each block; see :func:`~mmv2m.models.layers.plan_local_groups`.
            With None, each block scans the whole map from its four corners.
        ffn_ratio: Inner width of the blocks' MLP over D; 0 for none.
    """

    layout: str = 'plain'
    expand: int = 2
    state_dims: int = 16
    conv_size: int = 4
    dt_rank: int | str = 'auto'
    gated: bool = True
    share: str = 'all'
    orders: str = 'one'
    merge: str = 'sum'
    projects: str = 'one'
    scans: tuple[tuple[str, ...], ...] | None = None
    ffn_ratio: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dt_rank != 'auto':
            check_count('dt_rank', self.dt_rank)
        choices_of = dict(
            layout=LAYOUTS,
            share=SHARES,
            orders=ORDERS,
            merge=MERGES,
            projects=PROJECTS,
        )
        for name, choices in choices_of.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f'arch: {name} must be one of {", ".join(map(str, choices))}, but is {value!r}'
                )
        check_ffn_ratio(self.ffn_ratio, self.embed_dims)
        if self.is_pyramid and self.embed_dims % 2:
            raise ValueError(
                f"arch: a pyramid's embed_dims must be even, but is {self.embed_dims}: its stem's "
                'first convolution makes half of them'
            )
        if self.scans is not None:
            if self.orders != 'one':
                raise ValueError("arch: scans name their order themselves: leave orders at 'one'")
            if self.share != 'all':
                raise ValueError(
                    'arch: each of the scans shares its parameters with its flip alone: leave '
                    "share at 'all'"
                )
            scans = check_scans(self.scans, sum(self.depths), plan_local_groups)
            object.__setattr__(self, 'scans', scans)

    @property
    def is_pyramid(self) -> bool:
        """Whether resolution and width change between stages."""
        return self.layout == 'pyramid'

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each stage."""
        return tuple(self.embed_dims << i if self.is_pyramid else self.embed_dims for i in range(4))

    @property
    def patch_size(self) -> int:
        """Pixels along each side of one of the first stage's tokens, by default."""
        return 4 if self.is_pyramid else 16

    @property
    def class_token(self) -> str:
        """Kind of class tokens, by default."""
        return 'mean' if self.is_pyramid else 'middle'

    @property
    def norm_cfg(self) -> dict:
        """Norm of the blocks and outputs, by default."""
        return dict(type='SameDtypeLN' if self.is_pyramid else 'RMSNorm', eps=1e-5)

    @property
    def mixer_cfg(self) -> dict:
        """The sizes and parts as arguments of :class:`~mmv2m.models.layers.SS2D`."""
        return dict(
            expand=self.expand,
            states=self.state_dims,
            conv_size=self.conv_size,
            dt_rank=self.dt_rank,
            share=self.share,
            orders=self.orders,
            merge=self.merge,
            projects=self.projects,
            gated=self.gated,
            # This scale keeps the variance of the residual stream small.
            out_proj_scale=sum(self.depths) ** -0.5,
        )


def _pyramid(depths: tuple[int, ...], expand: int) -> Arch:
    """VMamba's sizes: 96 channels, one state, an MLP of ratio 4, no gates."""
    return Arch(
        *(96, depths, 'pyramid', expand),
        state_dims=1,
        gated=False,
        share='opposite',
        ffn_ratio=4,
    )


def check_ffn_ratio(ratio: Any, embed_dims: int) -> None:
    """Check the inner width of an MLP over its outer width; 0 stands for no MLP.

    Args:
        ratio: The inner width over the outer one.
        embed_dims: The outer width.

    Raises:
        ValueError: If ``ratio`` is no number from 0, or leaves less than one inner channel.
    """
    number = isinstance(ratio, (int, float)) and not isinstance(ratio, bool)
    if not number or not 0 <= ratio < float('inf'):
        raise ValueError(f'arch: ffn_ratio must be a number from 0, but is {ratio!r}')
    if ratio and int(embed_dims * ratio) < 1:
        raise ValueError(
            'arch: ffn_ratio must be 0, or large enough for an MLP of at least one channel, but is '
            f'{ratio!r}: {embed_dims} times {ratio!r} is less than 1'
        )


ARCH_ZOO: dict[str, Arch] = {
    **dict.fromkeys(('t', 'tiny'), Arch(192, (6, 6, 6, 6))),
    **dict.fromkeys(('s', 'small'), Arch(384, (6, 6, 6, 6))),
    'local-tiny': Arch(192, (5, 5, 5, 5), scans=LOCAL_SCANS['tiny']),
    'local-small': Arch(384, (5, 5, 5, 5), scans=LOCAL_SCANS['small']),
    **dict.fromkeys(('small*', 'pyramid-small'), _pyramid((2, 2, 8, 2), expand=1)),
    **dict.fromkeys(('base*', 'pyramid-base'), _pyramid((2, 2, 15, 2), expand=2)),
}
"""The paper's models (Table 1), by name."""


def parse_arch(arch: str | dict) -> Arch:
    """Look up or check an ``arch`` setting.

    Args:
        arch: A key of :data:`ARCH_ZOO`, in upper or lower case, or a dict of :class:`Arch`'s
            attributes, of which ``embed_dims`` and ``depths`` are needed.

    Raises:
        ValueError: If the name or a key is unknown, one is missing, or a value is impossible.
        TypeError: If ``arch`` is neither a string nor a dict.
    """
    return look_up_arch(arch, ARCH_ZOO)
