"""The ``arch`` setting, a name or a dict of sizes, as a dataclass."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

__all__ = ['StagedArch', 'check_count', 'check_scans', 'look_up_arch']


@dataclass(frozen=True)
class StagedArch:
    """Sizes that every backbone here has; subclasses add their own.

    Attributes:
        embed_dims: Width of the first stage, D.
        depths: Blocks in each of the four stages.

    Raises:
        ValueError: If there are not four ``depths``, a field that is declared as int is no positive
            integer, or a field that is declared as bool is no bool.
    """

    embed_dims: int
    depths: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'depths', _four_depths(self.depths))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int:
                check_count(field.name, value)
            if field.type is bool and not isinstance(value, bool):
                raise ValueError(f'arch: {field.name} must be True or False, but is {value!r}')


Arch = TypeVar('Arch', bound=StagedArch)


def look_up_arch(arch: str | dict, zoo: Mapping[str, Arch]) -> Arch:
    """Look up or check an ``arch`` setting.

    Args:
        arch: A key of ``zoo``, in upper or lower case, or a dict of the dataclass's attributes. The
            dict must have all attributes that have no default.
        zoo: Instances of one dataclass, by name. The dataclass checks its values itself.

    Raises:
        ValueError: If the name or a key is unknown, a key is missing, or a value is impossible.
        TypeError: If ``arch`` is neither a string nor a dict.
    """
    if isinstance(arch, str):
        by_name = {name.lower(): sizes for name, sizes in zoo.items()}
        if arch.lower() not in by_name:
            raise ValueError(
                f'arch must be one of {", ".join(zoo)} or a dict of sizes, but got {arch!r}'
            )
        return by_name[arch.lower()]
    if not isinstance(arch, dict):
        raise TypeError(f'arch must be a name or a dict of sizes, but is {type(arch).__name__}')
    kind = type(next(iter(zoo.values())))
    needed = {field.name: field.default is MISSING for field in fields(kind)}
    for key in arch:
        if key not in needed:
            near = difflib.get_close_matches(str(key), list(needed), n=1)
            hint = f'did you mean {near[0]!r}?' if near else f'the keys are {", ".join(needed)}'
            raise ValueError(f'arch has no key {key!r}; {hint}')
    missing = [key for key in needed if needed[key] and key not in arch]
    if missing:
        needs = ' and '.join(key for key in needed if needed[key])
        raise ValueError(f'arch lacks {" and ".join(missing)}: a dict needs {needs}')
    return kind(**arch)


def check_count(name: str, value: object) -> None:
    """Raise a ValueError unless a size is a positive integer."""
    if not _is_count(value, least=1):
        raise ValueError(f'arch: {name} must be a positive integer, but is {value!r}')


def check_scans(
    scans: Any, blocks: int, check: Callable[[Sequence[str]], object]
) -> tuple[tuple[str, ...], ...]:
    """Check the names of each block's scans, and return them as tuples.

    Args:
        scans: One sequence of names for each block.
        blocks: Number of blocks.
        check: Function that raises a ValueError if a block cannot have its scans.

    Raises:
        ValueError: If there is not one sequence for each block, or ``check`` refuses one.
    """
    if not isinstance(scans, Sequence) or isinstance(scans, str) or len(scans) != blocks:
        raise ValueError(
            f'arch: scans must be {blocks} sequences of names, one per block, such as '
            f"('h', 'h_flip', 'w7'); got {scans!r}"
        )
    for of_block in scans:
        try:
            check(of_block)
        except ValueError as error:
            raise ValueError(f'arch: {error}') from error
    return tuple(map(tuple, scans))


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _four_depths(depths: Sequence[int]) -> tuple[int, ...]:
    valid = isinstance(depths, Sequence) and all(_is_count(d, least=0) for d in depths)
    if not valid or len(depths) != 4 or sum(depths) == 0:
        raise ValueError(
            'arch: depths must be four numbers of blocks, one per stage, such as (6, 6, 6, 6); '
            f'got {depths!r}'
        )
    return tuple(depths)
