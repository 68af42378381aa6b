"""Result records: their fields, their checks and their files."""

import json
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import UserError, did_you_mean

__all__ = ['Record', 'load_record', 'load_records', 'save_record']

SCHEMA = 1
KINDS = ('training', 'evaluation')


@dataclass(frozen=True)
class Record:
    """The result of one run. records/README.md explains each field to a reader.

    Attributes:
        kind: ``'training'``, or ``'evaluation'`` of weights that came from elsewhere.
        config: The config's path in the repository, or its file name if it lies elsewhere.
        config_digest: Digest of the config file, see :func:`.provenance.config_digest`.
        options: Settings that the run changed, as dotted keys and values. Settings that only change
            where and how fast things are computed are left out.
        commit: Commit of the repository, 40 hexadecimal digits; None outside of a clone.
        dirty: Whether the clone had uncommitted changes.
        hardware: The device that the run used.
        gpus: How many processes trained or tested together.
        software: Versions by package.
        metrics: Metrics of the last test by name. Names of metrics with test-time augmentation
            begin with ``tta/``.
        checkpoint: SHA-256 of the checkpoint's file.
        seed: Seed of a training; None for an evaluation.
        global_batch: Images in one step of a training's optimizer; None for an evaluation.
        seconds: Wall-clock time of a training with all its resumed parts; None for an evaluation.
        log_digest: Digest of a training's log, see :func:`.provenance.log_digest`; None for an
            evaluation.
        schema: Version of these fields.

    Raises:
        ValueError: If a value is impossible. The message says which and why.
        TypeError: If a value has a wrong type.
    """

    kind: str
    config: str
    config_digest: str
    options: dict[str, Any]
    commit: str | None
    dirty: bool
    hardware: str
    gpus: int
    software: dict[str, str]
    metrics: dict[str, float]
    checkpoint: str
    seed: int | None = None
    global_batch: int | None = None
    seconds: float | None = None
    log_digest: str | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f'schema must be {SCHEMA}, but is {self.schema!r}')
        if self.kind not in KINDS:
            raise ValueError(f'kind must be one of {", ".join(KINDS)}, but is {self.kind!r}')
        for name in ('config', 'hardware'):
            _check_type(name, getattr(self, name), str)
        for name in ('options', 'software', 'metrics'):
            _check_type(name, getattr(self, name), dict)
        _check_type('dirty', self.dirty, bool)
        _check_digest('config_digest', self.config_digest, 64)
        _check_digest('checkpoint', self.checkpoint, 64)
        if self.commit is not None:
            _check_digest('commit', self.commit, 40)
        _check_number('gpus', self.gpus, int, 1)
        if not self.metrics:
            raise ValueError('metrics must not be empty')
        for name, value in self.metrics.items():
            _check_number(f'metrics.{name}', value, (int, float), -math.inf)
        self._check_training()

    def _check_training(self) -> None:
        given = (self.seed, self.global_batch, self.seconds, self.log_digest)
        if self.kind == 'evaluation':
            if given != (None,) * 4:
                raise ValueError(
                    'seed, global_batch, seconds and log_digest belong to trainings only'
                )
            return
        _check_number('seed', self.seed, int, 0)
        _check_number('global_batch', self.global_batch, int, 1)
        _check_number('seconds', self.seconds, (int, float), 0)
        _check_digest('log_digest', self.log_digest, 64)

    @property
    def file_name(self) -> str:
        """The name of the record's file. No two runs have the same name."""
        stem = Path(self.config).stem
        if self.kind == 'evaluation':
            return f'{stem}_evaluation_{self.checkpoint[:8]}.json'
        assert self.log_digest is not None
        return f'{stem}_seed{self.seed}_{self.log_digest[:8]}.json'


def save_record(record: Record, folder: Path) -> Path:
    """Write a record into a folder.

    Args:
        record: The record.
        folder: The folder. It is made if it does not exist.

    Returns:
        The path of the file, whose name is :attr:`Record.file_name`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / record.file_name
    path.write_text(json.dumps(asdict(record), indent=2, sort_keys=True) + '\n')
    return path


def load_record(path: Path) -> Record:
    """Read and check a record.

    Args:
        path: The record's file.

    Raises:
        UserError: If the file cannot be read, a field is missing, unknown or impossible, or the
            file has the name of another record.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise UserError(f'{path} must hold one record, but holds {type(content).__name__}')
    known = [field.name for field in fields(Record)]
    for name in content:
        if name not in known:
            raise UserError(f'{path}: a record has no {name}{did_you_mean(name, known)}')
    missing = [name for name in known if name not in content]
    if missing:
        raise UserError(f'{path} lacks {", ".join(missing)}')
    try:
        record = Record(**content)
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: {error}') from error
    if path.name != record.file_name:
        raise UserError(f'{path}: by what it holds its name is {record.file_name}')
    return record


def load_records(folder: Path) -> list[Record]:
    """All records of a folder in the order of their file names; none if there is no such folder.

    Args:
        folder: The folder. Folders inside it are not read.

    Raises:
        UserError: If a record is wrong. The message is about the first such record.
    """
    return [load_record(path) for path in sorted(folder.glob('*.json'))]


def _check_type(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f'{name} must be a {kind.__name__}, but is {value!r}')


def _check_digest(name: str, value: object, digits: int) -> None:
    if not isinstance(value, str) or not re.fullmatch(f'[0-9a-f]{{{digits}}}', value):
        raise ValueError(f'{name} must be {digits} hexadecimal digits, but is {value!r}')


def _check_number(name: str, value: object, kind: Any, least: float) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f'{name} must be a number, but is {value!r}')
    if not math.isfinite(value) or value < least:
        raise ValueError(f'{name} must be finite and at least {least}, but is {value!r}')
