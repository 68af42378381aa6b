"""Files that are whole or absent, whenever the process that writes them ends."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

__all__ = ['ATOMIC_FILES', 'AtomicFilesBackend']

ATOMIC_FILES = 'mmv2m_atomic_files'
"""Name of the backend for ``backend_args = dict(backend=...)``."""


class AtomicFilesBackend(LocalBackend):
    """mmengine's backend for local files, which replaces a file when the new one is complete."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file.

        Args:
            obj: The content.
            filepath: The file. Its folder is made if it does not exist.
        """
        part = Path(f'{filepath}.part')
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, 'wb') as file:
            file.write(obj)
            file.flush()
            # Without this, a power cut may leave the file's name without its content.
            os.fsync(file.fileno())
        part.replace(filepath)


register_backend(ATOMIC_FILES, AtomicFilesBackend, force=True)
