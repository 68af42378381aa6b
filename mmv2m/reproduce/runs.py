"""Training and testing of a row by tools/train.py and tools/test.py, as processes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmv2m.engine.config import load_config
from mmv2m.engine.errors import UserError
from mmv2m.engine.records import (
    config_digest,
    evaluation_record,
    save_record,
    training_record,
)
from mmv2m.root import ROOT

from .placement import place
from .results import WEIGHTS, logged_name
from .run_state import RunState, load_state
from .tables import Row

__all__ = ['Runs', 'test_checkpoint', 'train_row']

SAVE_EVERY = 10.0
"""Seconds between two updates of a training's time in its state."""


@dataclass(frozen=True)
class Runs:
    """The settings of all runs of a command.

    Attributes:
        work_dir: Folder with one folder for each run.
        records: Folder of the result records.
        gpus: Number of GPUs of a run.
        seed: Seed of the trainings.
        options: Settings that replace the configs', by dotted key.
        weights: Pretrained weights of the backbone, for the rows that need them.
    """

    work_dir: Path
    records: Path
    gpus: int = 1
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None

    def folder(self, config: Path) -> Path:
        """The work dir of a config's run."""
        return self.work_dir / f'{config.stem}_seed{self.seed}'

    def pretrained(self, row: Row, path: Path) -> str | None:
        """The weights that a row's backbone starts from; None if the config names its own.

        Args:
            row: The row.
            path: File of the row's config.

        Raises:
            UserError: If the row needs weights and there are none. The message says how to get
                them.
        """
        if row.init is None or self.weights:
            return self.weights if row.init else None
        root = path.parents[len(Path(row.config).parts) - 1]
        config = root / row.init
        trained = sorted(self.work_dir.glob(f'{config.stem}_seed*/reproduce.json'))
        for file in [self.folder(config) / 'reproduce.json', *trained]:
            if file.exists() and (name := json.loads(file.read_text())['trained']):
                return str(file.parent / name)
        raise UserError(
            f'the backbone starts from ImageNet weights of {row.init}: run that row first, with '
            'the same --work-dir, or name weights by --weights'
        )


def train_row(row: Row, config: Path, runs: Runs) -> Path:
    """Train a row or resume its training, test its last checkpoint, and record the result.

    Args:
        row: The row.
        config: The row's config.
        runs: Settings of the run.

    Returns:
        The record's file. It may be of an earlier run.

    Raises:
        UserError: If the row cannot be run, or a process fails.
    """
    cfg = load_config(str(config))
    recipe = place(cfg, runs.gpus).options(cfg)
    chosen: dict[str, Any] = {'randomness.seed': runs.seed}
    if weights := runs.pretrained(row, config):
        chosen |= {
            f'{WEIGHTS}.type': 'Pretrained',
            f'{WEIGHTS}.checkpoint': weights,
            f'{WEIGHTS}.prefix': 'backbone.',
        }
    chosen |= runs.options
    state = load_state(runs.folder(config), config_digest(cfg), chosen, runs.gpus)
    if state.recorded and (runs.records / state.recorded).exists():
        return runs.records / state.recorded
    options = recipe | chosen
    if state.trained is None:
        _train(config, state, options, runs.gpus)
    assert state.trained is not None
    checkpoint = state.folder / state.trained
    metrics = _test(row, config, checkpoint, state.folder / 'test', options, runs.gpus)
    record = training_record(
        _with_options(config, options),
        metrics,
        checkpoint,
        work_dir=state.folder,
        seed=options['randomness.seed'],
        gpus=runs.gpus,
        seconds=state.seconds,
    )
    path = save_record(record, runs.records)
    state.recorded = path.name
    state.save()
    return path


def test_checkpoint(row: Row, config: Path, checkpoint: Path, runs: Runs) -> Path:
    """Test weights that came from elsewhere, and record the result.

    Args:
        row: The row.
        config: The row's config.
        checkpoint: The weights.
        runs: Settings of the run.

    Returns:
        The record's file.

    Raises:
        UserError: If a process fails.
    """
    folder = runs.work_dir / f'{config.stem}_{checkpoint.stem}'
    metrics = _test(row, config, checkpoint, folder, runs.options, runs.gpus)
    cfg = _with_options(config, runs.options)
    record = evaluation_record(cfg, metrics, checkpoint, gpus=runs.gpus)
    return save_record(record, runs.records)


def _with_options(config: Path, options: dict[str, Any]) -> Config:
    return load_config(str(config), options)


def _train(config: Path, state: RunState, options: dict[str, Any], gpus: int) -> None:
    arguments = [str(config), '--work-dir', str(state.folder), '--resume']
    before, started = state.seconds, time.monotonic()

    def note_time() -> None:
        state.seconds = before + time.monotonic() - started
        state.save()

    note_time()
    _run('train.py', arguments, options, gpus, note_time)
    note_time()
    state.trained = Path((state.folder / 'last_checkpoint').read_text()).name
    state.save()


def _test(
    row: Row, config: Path, checkpoint: Path, folder: Path, options: dict[str, Any], gpus: int
) -> dict[str, float]:
    """Metrics of the tests of a checkpoint, by their names in records."""
    arguments = [str(config), str(checkpoint), '--work-dir', str(folder), '--out-item', 'metrics']
    metrics: dict[str, float] = {}
    for tta in sorted({metric.tta for metric in row.data.metrics}):
        out = folder / f'metrics{"_tta" * tta}.json'
        augmented = ['--tta'] if tta else []
        _run('test.py', [*arguments, '--out', str(out), *augmented], options, gpus)
        found = json.loads(out.read_text())
        metrics |= {f'{"tta/" * tta}{name}': value for name, value in found.items()}
    missing = [m.name for m in row.data.metrics if logged_name(m) not in metrics]
    if missing:
        raise UserError(f'the test gave no {", ".join(missing)}, but {", ".join(metrics)}')
    return metrics


def _run(
    tool: str,
    arguments: Sequence[str],
    options: dict[str, Any],
    gpus: int,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Run a tool as one process, or as one for each GPU. Its output is shown at once."""
    command = [sys.executable]
    launched: list[str] = []
    if gpus > 1:
        command += ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
        launched = ['--launcher', 'pytorch']
    command += [str(ROOT / 'tools' / tool), *arguments, *launched]
    if options:
        command += ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]
    process = subprocess.Popen(command)
    try:
        while True:
            try:
                status = process.wait(SAVE_EVERY)
                break
            except subprocess.TimeoutExpired:
                meanwhile()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if status:
        raise UserError(f'{tool} ended with status {status}; what it said is above and in its log')
