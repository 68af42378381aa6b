"""One clear line for what a user got wrong."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmv2m.utils.suggestions import did_you_mean

__all__ = ['UserError', 'did_you_mean', 'exit_on_user_error']

RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


class UserError(Exception):
    """A mistake in a command line, a config or a data folder; the message says how to mend it."""


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
