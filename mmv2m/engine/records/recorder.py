"""Records of runs that have just ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .provenance import (
    changed_settings,
    config_digest,
    config_id,
    file_digest,
    hardware_name,
    log_digest,
    repository_state,
    software_versions,
)
from .record import Record

__all__ = ['evaluation_record', 'training_record']


def training_record(
    run: Config,
    metrics: Mapping[str, float],
    checkpoint: Path,
    *,
    work_dir: Path,
    seed: int,
    gpus: int,
    seconds: float,
) -> Record:
    """Record a training.

    Args:
        run: The config of the run. ``run.filename`` is the config's file.
        metrics: Metrics of the last test of the last checkpoint.
        checkpoint: The last checkpoint.
        work_dir: Folder of the training's logs.
        seed: Seed of the training.
        gpus: How many processes trained together.
        seconds: How long the training took.

    Raises:
        ValueError: If a value is impossible, such as a metric that is not finite.
        FileNotFoundError: If there is no log.
    """
    steps = run.optim_wrapper.get('accumulative_counts', 1)
    return Record(
        kind='training',
        seed=seed,
        global_batch=run.train_dataloader.batch_size * gpus * steps,
        seconds=round(seconds, 1),
        log_digest=log_digest(work_dir),
        **_common(run, metrics, checkpoint, gpus),
    )


def evaluation_record(
    run: Config, metrics: Mapping[str, float], checkpoint: Path, *, gpus: int = 1
) -> Record:
    """Record a test of weights that came from elsewhere.

    Args:
        run: The config of the run. ``run.filename`` is the config's file.
        metrics: Metrics of the test.
        checkpoint: File of the weights.
        gpus: How many processes tested together.

    Raises:
        ValueError: If a value is impossible, such as a metric that is not finite.
    """
    return Record(kind='evaluation', **_common(run, metrics, checkpoint, gpus))


def _common(
    run: Config, metrics: Mapping[str, float], checkpoint: Path, gpus: int
) -> dict[str, Any]:
    cfg = Config.fromfile(run.filename)
    commit, dirty = repository_state()
    return dict(
        config=config_id(run.filename),
        config_digest=config_digest(cfg),
        options=changed_settings(cfg, run),
        commit=commit,
        dirty=dirty,
        hardware=hardware_name(gpus),
        gpus=gpus,
        software=software_versions(),
        metrics={name: round(float(value), 4) for name, value in metrics.items()},
        checkpoint=file_digest(checkpoint),
    )
