"""The sizes in which V2M comes, and how a user's own are checked."""

from dataclasses import dataclass

from .zoo import StagedArch, check_count, look_up_arch

__all__ = ['ARCH_ZOO', 'Arch', 'parse_arch']


@dataclass(frozen=True)
class Arch(StagedArch):
    """Sizes of a plain V2M: four stages at one resolution.

    Attributes:
        embed_dims: Width, D.
        depths: Blocks in each of the four stages.
        expand: Inner width over D.
        state_dims: States a channel, N.
        conv_size: Taps of the convolutions.
        dt_rank: Rank of the time step's projection; ``'auto'`` for ceil(D / 16).
    """

    expand: int = 2
    state_dims: int = 16
    conv_size: int = 4
    dt_rank: int | str = 'auto'

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dt_rank != 'auto':
            check_count('dt_rank', self.dt_rank)


ARCH_ZOO: dict[str, Arch] = {
    **dict.fromkeys(('t', 'tiny'), Arch(embed_dims=192, depths=(6, 6, 6, 6))),
    **dict.fromkeys(('s', 'small'), Arch(embed_dims=384, depths=(6, 6, 6, 6))),
}
"""The plain models of the paper's Table 1, by name."""


def parse_arch(arch: str | dict) -> Arch:
    """Look up or check an ``arch`` setting.

    Args:
        arch: A key of :data:`ARCH_ZOO`, any case, or a dict of :class:`Arch`'s attributes, of which
            ``embed_dims`` and ``depths`` are needed.

    Raises:
        ValueError: If the name or a key is unknown, one is missing, or a value is impossible.
        TypeError: If ``arch`` is neither a string nor a dict.
    """
    return look_up_arch(arch, ARCH_ZOO)
