"""Files that are complete or missing, whenever the process that writes them ends."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

__all__ = ['ATOMIC_FILES', 'AtomicFilesBackend']

ATOMIC_FILES = 'mmv2m_atomic_files'
"""Name of the backend for ``backend_args = dict(backend=...)``."""


class AtomicFilesBackend(LocalBackend):
    """mmengine's backend for local files, which replaces a file when the new one is complete."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file, and make its folder if need be.

        Args:
            obj: The content.
            filepath: The file.

        Raises:
            OSError: If the file cannot be written, for example because the disk is full. The error
                has the file's name. The old file is unchanged, and no other file is left behind.
        """
        part = Path(f'{filepath}.part')
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, 'wb') as file:
                file.write(obj)
                file.flush()
                # Otherwise the name may survive a power cut and the content may not.
                os.fsync(file.fileno())
            part.replace(filepath)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(filepath)) from error


register_backend(ATOMIC_FILES, AtomicFilesBackend, force=True)
