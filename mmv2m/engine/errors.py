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
    """A mistake in a command line, a config or a data folder. The message helps to correct it."""


class TrainingStoppedError(UserError):
    """A training cannot go on. The message says why, and which checkpoint is left.

    It may be raised in one rank of a distributed run alone, so every rank prints it.
    """


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a :class:`UserError` into one line ``error: ...`` on stderr and exit status 2.

    In a distributed run, only the first process prints the line, unless the error is a
    :class:`TrainingStoppedError`. A full disk is treated like that error. Other exceptions pass
    unchanged.
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
        _exit(f'{error.strerror}{where}: nothing more can be saved; earlier files are complete')


def _exit(error: object) -> NoReturn:
    print('error:', ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(2)
