"""The state of a row's run, which is kept in its work dir."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmv2m.engine.errors import UserError

__all__ = ['RunState', 'load_state']

FILE = 'reproduce.json'


@dataclass
class RunState:
    """The state of a run. :meth:`save` writes it.

    Attributes:
        folder: The work dir.
        config_digest: Digest of the config at the start of the run.
        options: Settings at the start of the run, by dotted key.
        gpus: Number of GPUs at the start of the run.
        seconds: Seconds that the training has taken so far.
        trained: File name of the last checkpoint, after the end of the training.
        recorded: File name of the record, after it has been written.
    """

    folder: Path
    config_digest: str
    options: dict[str, Any] = field(default_factory=dict)
    gpus: int = 1
    seconds: float = 0.0
    trained: str | None = None
    recorded: str | None = None

    def save(self) -> None:
        """Write the state into the work dir, which is made if it does not exist."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {key: value for key, value in asdict(self).items() if key != 'folder'}
        # A half-written file would make it impossible to resume the run.
        part = self.folder / f'{FILE}.part'
        part.write_text(json.dumps(content, indent=2) + '\n')
        part.replace(self.folder / FILE)


def load_state(folder: Path, config_digest: str, options: dict[str, Any], gpus: int) -> RunState:
    """The state of a run that is resumed, or of a new run.

    Args:
        folder: The work dir.
        config_digest: Digest of the present config.
        options: The present settings.
        gpus: The present number of GPUs. It does not change the recipe of a resumed training.

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
