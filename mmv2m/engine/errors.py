"""Errors of users as one clear line."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from mmv2m.utils.suggestions import did_you_mean

__all__ = ['TrainingStoppedError', 'UserError', 'did_you_mean', 'exit_on_user_error']

RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


class UserError(Exception):
    """A mistake in a command line, a config or a data folder. The message says how to mend it."""


class TrainingStoppedError(UserError):
    """A training cannot go on; the message says why, and what is left of it.

    A rank may be the only one that knows.
    """


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a :class:`UserError` into one line ``error: ...`` on stderr and exit status 2.

    In a distributed run only the first process prints it, unless it is a
    :class:`TrainingStoppedError`. A disk that is full is one too. Other exceptions pass unchanged.
    """
    try:
        yield
    except UserError as error:
        rank = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), '0')
        if rank == '0' or isinstance(error, TrainingStoppedError):
            _exit(error)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f' ({error.filename})' if error.filename else ''
        _exit(f'{error.strerror}{where}: nothing more can be saved; what was saved before is whole')


def _exit(error: object) -> NoReturn:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(2)
