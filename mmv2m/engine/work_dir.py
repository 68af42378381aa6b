"""A lock that lets one training at a time use a work dir."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process

from .errors import RANK_VARIABLES, UserError

__all__ = ['only_training_in']

LOCK = '.training.lock'


@contextmanager
def only_training_in(work_dir: str | Path) -> Iterator[None]:
    """Keep other trainings out of a work dir, and make it if need be.

    Two trainings in one folder would remove and resume each other's checkpoints. The system holds
    the lock (flock). So the lock ends with the process, however that ends, and the file that stays
    behind has no meaning. In a distributed run, the first process holds the lock. On file systems
    without locks, there is none.

    Args:
        work_dir: The folder.

    Raises:
        UserError: If the folder cannot be made or written to, or another training holds the lock.
            The message names the other process.
    """
    rank = next((os.environ[name] for name in RANK_VARIABLES if name in os.environ), '0')
    if rank != '0' or not is_main_process():
        yield
        return
    file = Path(work_dir) / LOCK
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f'{work_dir} cannot be used as the folder of the training: {error}; choose another one '
            'with --work-dir'
        ) from error
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors='replace').strip()
            raise UserError(
                f'another training is running in {work_dir}'
                + (f' ({holder})' if holder else '')
                + ': wait for its end, or choose another folder with --work-dir'
            ) from None
        except OSError:
            pass  # this file system has no locks
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f'process {os.getpid()} on {socket.gethostname()}'.encode(), 0)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


_held: set[int] = set()


def _release_in_child() -> None:
    # Otherwise, workers of data loaders, which may outlive a killed training, would keep the lock.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_release_in_child)
