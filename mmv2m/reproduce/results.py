"""The results of a row in the records of runs."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from mmv2m.engine.records import Record, config_digest, config_id

from .placement import global_batch
from .tables import Metric, Row

__all__ = ['Own', 'own_results', 'why_not']

FREE = ('randomness.seed', 'train_dataloader.batch_size', 'optim_wrapper.accumulative_counts')
"""Settings that a run may change without a change of the recipe, at the same global batch."""

WEIGHTS = 'model.backbone.init_cfg'


@dataclass(frozen=True)
class Own:
    """Our own figure for a metric, over all runs of a row.

    Attributes:
        values: The figure of each run, in percent.
        trained: Whether the runs are trainings; otherwise they are tests of others' weights.
    """

    values: tuple[float, ...]
    trained: bool = True

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation over the runs; None for a single run."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Results:
    """The results of a row.

    Attributes:
        own: Our own figures, by the metric's name.
        left_out: One reason for each record of the row's config that does not count.
    """

    own: dict[str, Own] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def own_results(row: Row, path: Path, cfg: Config, records: Iterable[Record]) -> Results:
    """Collect a row's results.

    Tests of others' weights count only where there is no training.

    Args:
        row: The row.
        path: File of the row's config.
        cfg: The row's config.
        records: All records.
    """
    name, digest = config_id(path), config_digest(cfg)
    of_row = [record for record in records if record.config == name]
    reasons = [why_not(record, row, digest, global_batch(cfg)) for record in of_row]
    counted = [record for record, reason in zip(of_row, reasons, strict=True) if not reason]
    own = {}
    for metric in row.data.metrics:
        for kind in ('training', 'evaluation'):
            values = tuple(
                record.metrics[logged_name(metric)] * metric.factor
                for record in counted
                if record.kind == kind and logged_name(metric) in record.metrics
            )
            if values:
                own[metric.name] = Own(values, trained=kind == 'training')
                break
    return Results(own, tuple(reason for reason in reasons if reason))


def why_not(record: Record, row: Row, digest: str, batch: int) -> str:
    """The reason why a record of a row's config does not count, or an empty string if it counts.

    Args:
        record: The record.
        row: The row.
        digest: Digest of the present config.
        batch: Images in one step of the optimizer, by the recipe.
    """
    allowed = (*FREE, WEIGHTS) if row.init else FREE
    others = [key for key in record.options if not key.startswith(allowed)]
    if record.config_digest != digest:
        return 'a record is of an earlier version of the config'
    if others:
        return f'a record is of a run with other settings ({", ".join(others)})'
    if record.kind == 'training' and record.global_batch != batch:
        return f'a record is of a run with a batch of {record.global_batch} instead of {batch}'
    if record.kind == 'training' and row.init and not _has_weights(record):
        return 'a record is of a run without pretrained weights'
    return ''


def logged_name(metric: Metric) -> str:
    """The name of a metric in records."""
    return f'tta/{metric.logged}' if metric.tta else metric.logged


def _has_weights(record: Record) -> bool:
    return any(key.startswith(WEIGHTS) for key in record.options)
