"""How an ``arch`` setting, a name or a dict of sizes, becomes a dataclass."""

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TypeVar

__all__ = ['look_up_arch']

Arch = TypeVar('Arch')


def look_up_arch(arch: str | dict, zoo: Mapping[str, Arch]) -> Arch:
    """Look up or check an ``arch`` setting.

    Args:
        arch: A key of ``zoo``, any case, or a dict of its dataclass's attributes, of which those
            without a default are needed.
        zoo: Instances of one dataclass, by name; the dataclass checks its values itself.

    Raises:
        ValueError: If the name or a key is unknown, one is missing, or a value is impossible.
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
    needed = {field.name: field.default is MISSING for field in fields(kind)}  # type: ignore[arg-type]
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
