"""The sizes in which V2M comes, and how a user's own are checked."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields

__all__ = ['ARCH_ZOO', 'Arch', 'parse_arch']


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class Arch:
    """Sizes of a plain V2M: four stages at one resolution.

    Attributes:
        embed_dims: Width, D.
        depths: Blocks in each of the four stages.
        expand: Inner width over D.
        state_dims: States a channel, N.
        conv_size: Taps of the convolutions.
        dt_rank: Rank of the time step's projection; ``'auto'`` for ceil(D / 16).
    """

    embed_dims: int
    depths: tuple[int, ...]
    expand: int = 2
    state_dims: int = 16
    conv_size: int = 4
    dt_rank: int | str = 'auto'

    def __post_init__(self) -> None:
        object.__setattr__(self, 'depths', self._four_depths(self.depths))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == 'depths' or (field.name == 'dt_rank' and value == 'auto'):
                continue
            if not _is_count(value, least=1):
                raise ValueError(f'arch: {field.name} must be a positive integer, but is {value!r}')

    @staticmethod
    def _four_depths(depths: Sequence[int]) -> tuple[int, ...]:
        valid = isinstance(depths, Sequence) and all(_is_count(d, least=0) for d in depths)
        if not valid or len(depths) != 4 or sum(depths) == 0:
            raise ValueError(
                'arch: depths must be four numbers of blocks, one a stage, such as (6, 6, 6, 6); '
                f'got {depths!r}'
            )
        return tuple(depths)


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
    if isinstance(arch, str):
        if arch.lower() not in ARCH_ZOO:
            raise ValueError(
                f'arch must be one of {", ".join(ARCH_ZOO)} or a dict of sizes, but got {arch!r}'
            )
        return ARCH_ZOO[arch.lower()]
    if not isinstance(arch, dict):
        raise TypeError(f'arch must be a name or a dict of sizes, but is {type(arch).__name__}')
    known = [field.name for field in fields(Arch)]
    for key in arch:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f'did you mean {near[0]!r}?' if near else f'the keys are {", ".join(known)}'
            raise ValueError(f'arch has no key {key!r}; {hint}')
    missing = [key for key in ('embed_dims', 'depths') if key not in arch]
    if missing:
        raise ValueError(f'arch lacks {" and ".join(missing)}: a dict needs embed_dims and depths')
    return Arch(**arch)
