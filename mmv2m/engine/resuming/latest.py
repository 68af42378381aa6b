"""The checkpoint of a work dir from which a training goes on."""

from pathlib import Path

__all__ = ['latest_checkpoint']


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """Find the newest checkpoint of a work dir, which may have been moved or copied.

    The file ``last_checkpoint`` has the path at the time of saving. A file of that name in the work
    dir itself is tried first, and then the path. If neither exists, for example because a training
    was killed while it wrote ``last_checkpoint``, the newest ``epoch_*.pth`` or ``iter_*.pth`` is
    taken.

    Args:
        work_dir: The work dir. It need not exist.

    Returns:
        Path of the checkpoint, or None if there is none.
    """
    folder = Path(work_dir)
    note = folder / 'last_checkpoint'
    name = note.read_text().strip() if note.is_file() else ''
    if '://' in name:
        return name
    # Checkpoints of DeepSpeed are folders.
    for candidate in (folder / name.replace('\\', '/').rsplit('/', 1)[-1], Path(name)):
        if name and candidate.exists():
            return str(candidate)
    saved = [*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')]
    return str(max(saved, key=lambda path: path.stat().st_mtime)) if saved else None
