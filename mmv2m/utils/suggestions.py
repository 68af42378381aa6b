"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable

__all__ = ['did_you_mean', 'unknown_setting']


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Ask ``; did you mean '...'?`` with the most similar names, or return an empty string.

    Args:
        name: The name that was written, in any case.
        known: The names that exist.
        cutoff: The least similarity, from 0 for any name to 1 for the same name.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, cutoff=cutoff)
    return f'; did you mean {" or ".join(repr(by_lower[n]) for n in near)}?' if near else ''


def unknown_setting(name: str, known: Iterable[str]) -> str:
    """Describe a setting that does not exist, with the most similar names, or all that exist."""
    known = list(known)
    return f'no setting {name!r}' + (did_you_mean(name, known) or f'; there are {", ".join(known)}')
