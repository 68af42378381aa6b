"""The arguments that classes and functions have."""

import inspect
from typing import Any

__all__ = ['arguments', 'required', 'takes']

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments(found: Any) -> tuple[list[str], bool]:
    """The arguments of a class and the bases that it hands keywords to; whether these are all."""
    names: dict[str, None] = {}
    handed_on = False
    for place in inspect.getmro(found) if inspect.isclass(found) else (found,):
        target = vars(place).get('__init__') if inspect.isclass(place) else place
        if target is None:
            continue
        try:
            parameters = inspect.signature(target).parameters.values()
        except (TypeError, ValueError):
            return list(names), False
        names |= dict.fromkeys(p.name for p in parameters if p.kind not in VARIABLE)
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            return [name for name in names if name != 'self'], not handed_on
        handed_on = True
    return [name for name in names if name != 'self'], False


def required(found: Any) -> list[str]:
    """The arguments that a class or function cannot do without."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in VARIABLE]


def takes(found: Any, name: str) -> bool:
    """Whether a class or function has an argument of this name, or may take any."""
    known, all_known = arguments(found)
    return name in known or not all_known
