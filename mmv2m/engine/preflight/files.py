"""Checks of the config file and of checkpoints."""

from pathlib import Path

from ..errors import UserError, did_you_mean

__all__ = ['check_checkpoint', 'check_config_file', 'is_remote']


def is_remote(path: str) -> bool:
    """Whether a path is a URL or another address, such as ``s3://...``, and no local file."""
    return '://' in path


def check_config_file(path: str) -> None:
    """Check that a config exists.

    Raises:
        UserError: If it does not, with the name most like it in its folder.
    """
    _check_file(Path(path), 'config', ('.py', '.json', '.yaml', '.yml'))


def check_checkpoint(path: str, what: str) -> None:
    """Check that a checkpoint exists, unless it is a remote one.

    Args:
        path: File or URL.
        what: What to call it in the error.

    Raises:
        UserError: If it does not, with the name most like it in its folder.
    """
    if not is_remote(path):
        _check_file(Path(path).expanduser(), what, ('.pth', '.pt', '.ckpt'))


def _check_file(path: Path, what: str, suffixes: tuple[str, ...]) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise UserError(f'{what} {path} is a folder, not a file')
    if not path.parent.is_dir():
        raise UserError(
            f'{what} {path} does not exist: there is no folder {path.parent.absolute()}'
        )
    # A bare name is looked for among the configs too, where it usually belongs.
    folders = [path.parent] if path.parent != Path() else [path.parent, Path('configs')]
    files = {
        str(file): file.name
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if file.suffix in suffixes
    }
    wanted = path.name if path.suffix else path.name + suffixes[0]
    hint = did_you_mean(wanted, files.values())
    for full, name in files.items():
        hint = hint.replace(repr(name), repr(full))
    raise UserError(f'{what} {path} does not exist{hint}')
