"""Hints at what a user may have meant."""

import difflib
from collections.abc import Iterable

__all__ = ['did_you_mean', 'unknown_setting']


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean '...'?`` with the names most like ``name``, any case, or an empty string.

    Args:
        name: What was written.
        known: What could have been meant.
        cutoff: How like it a name has to be: from 0, anything, to 1, the same.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, cutoff=cutoff)
    return f'; did you mean {" or ".join(repr(by_lower[n]) for n in near)}?' if near else ''


def unknown_setting(name: str, known: Iterable[str]) -> str:
    """What to say of a setting that there is not: the names most like it, or all that there are."""
    known = list(known)
    return f'no setting {name!r}' + (did_you_mean(name, known) or f'; there are {", ".join(known)}')
