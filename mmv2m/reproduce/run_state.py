"""How far the run of a row has come, kept in its work dir."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmv2m.engine.errors import UserError

__all__ = ['RunState', 'load_state']

FILE = 'reproduce.json'


@dataclass
class RunState:
    """The state of a run; :meth:`save` writes it.

    Attributes:
        folder: The work dir.
        config_digest: Of the config that it was started with.
        options: Settings that it was started with, by dotted key.
        gpus: How many GPUs it was started on.
        seconds: What the training has taken so far.
        trained: The last checkpoint's file name once the training has ended.
        recorded: The record's file name once there is one.
    """

    folder: Path
    config_digest: str
    options: dict[str, Any] = field(default_factory=dict)
    gpus: int = 1
    seconds: float = 0.0
    trained: str | None = None
    recorded: str | None = None

    def save(self) -> None:
        """Write the state into the work dir, which is made if need be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {key: value for key, value in asdict(self).items() if key != 'folder'}
        # A file that is half written when the process ends would make the run impossible to resume.
        part = self.folder / f'{FILE}.part'
        part.write_text(json.dumps(content, indent=2) + '\n')
        part.replace(self.folder / FILE)


def load_state(folder: Path, config_digest: str, options: dict[str, Any], gpus: int) -> RunState:
    """The state of a run that is to be resumed, or that of a new one.

    Args:
        folder: The work dir.
        config_digest: Of the config as it is now.
        options: Settings as they are now.
        gpus: How many GPUs there are now; a resumed training's recipe is the same on any number.

    Raises:
        UserError: If the work dir belongs to a run of another config or with other settings.
    """
    file = folder / FILE
    fresh = RunState(folder, config_digest, json.loads(json.dumps(options)), gpus)
    if not file.exists():
        return fresh
    try:
        state = RunState(folder=folder, **json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f'{file} cannot be read: {error}; remove {folder} to start anew') from error
    if (state.config_digest, state.options) != (config_digest, fresh.options):
        raise UserError(
            f'{folder} holds a run of an earlier version of the config or with other settings: '
            'remove it, or take another --work-dir'
        )
    return state
