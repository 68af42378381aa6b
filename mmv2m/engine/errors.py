"""Errors of users as one clear line."""

import difflib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ['UserError', 'did_you_mean', 'exit_on_user_error']

RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


class UserError(Exception):
    """A mistake in a command line, a config or a data folder. The message says how to mend it."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a :class:`UserError` into one line ``error: ...`` on stderr and exit status 2.

    In a distributed run only the first process prints it. Other exceptions pass unchanged.
    """
    try:
        yield
    except UserError as error:
        rank = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), '0')
        if rank == '0':
            print('error:', ' '.join(str(error).split()), file=sys.stderr)
        sys.exit(2)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean '...'?`` with the names most like ``name``, any case, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower)
    return f'; did you mean {" or ".join(repr(by_lower[n]) for n in near)}?' if near else ''
