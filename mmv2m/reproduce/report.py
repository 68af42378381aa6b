"""A row's report: printed and measured figures, own results, cost and obstacles."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import is_cuda_available

from mmv2m.engine.config import load_config
from mmv2m.engine.errors import UserError
from mmv2m.engine.preflight.model import check_model
from mmv2m.engine.records import Record
from mmv2m.utils.complexity import Complexity, measure_config

from .estimate import Estimate, estimate_training
from .obstacles import Obstacle, find_obstacles
from .results import Results, own_results
from .tables import Row, Table, Tables
from .train_step import Throughput

__all__ = ['RowReport', 'measure_row', 'report_rows', 'row_config']


@dataclass(frozen=True)
class RowReport:
    """The report of a row.

    Attributes:
        table: The row's table.
        row: The row, with its printed figures.
        cost: Measured parameters and FLOPs; None if the model cannot be built.
        results: Our own figures.
        estimates: The cost of a full training on this machine; empty without a GPU.
        obstacles: The obstacles to a training on this machine.
    """

    table: Table
    row: Row
    cost: Complexity | None = None
    results: Results = field(default_factory=Results)
    estimates: Sequence[Estimate] = ()
    obstacles: Sequence[Obstacle] = ()


_loaded = cache(load_config)


def row_config(path: Path) -> Config:
    """Load a config. Each process reads a file once.

    Raises:
        UserError: If it cannot be loaded.
    """
    return deepcopy(_loaded(str(path)))


@cache
def measure_row(path: Path, size: tuple[int, int]) -> Complexity:
    """Count a config's parameters and FLOPs. Each process counts a config once.

    Args:
        path: The config.
        size: H and W of the image.

    Raises:
        UserError: If the config cannot be loaded, or its model cannot be built or run.
    """
    cfg = row_config(path)
    check_model(cfg)
    try:
        return measure_config(cfg, size)
    except Exception as error:
        # Models are of many libraries. An error of one of them must not stop the report of others.
        problem = f'{type(error).__name__}: {error}'
        raise UserError(f'{path.name}: the model cannot be measured: {problem}') from error


def report_rows(
    tables: Tables, chosen: Sequence[Table], records: Sequence[Record], time_steps: bool = True
) -> Iterator[RowReport]:
    """Report rows one by one, in order. An obstacle to one row does not stop the others.

    Args:
        tables: All tables.
        chosen: The tables and rows to report, from :meth:`Tables.select`.
        records: Results of runs.
        time_steps: Whether to time training steps if there is a GPU.
    """
    for table in chosen:
        for row in table.rows:
            yield _report(tables, table, row, records, time_steps)


def _report(
    tables: Tables, table: Table, row: Row, records: Iterable[Record], time_steps: bool
) -> RowReport:
    path = tables.config_path(row)
    try:
        cfg = row_config(path)
    except UserError as error:
        return RowReport(table, row, obstacles=[Obstacle('config wrong', str(error))])
    obstacles = find_obstacles(cfg, training=True, cpu=row.data.cpu)
    results = own_results(row, path, cfg, records)
    if any(obstacle.kind in ('library missing', 'model wrong') for obstacle in obstacles):
        return RowReport(table, row, results=results, obstacles=obstacles)
    try:
        cost = measure_row(path, row.size)
    except UserError as error:
        obstacles.append(Obstacle('model wrong', str(error)))
        return RowReport(table, row, results=results, obstacles=obstacles)
    estimates: Sequence[Estimate] = ()
    if time_steps and is_cuda_available():
        try:
            estimates = _estimate(path, cfg, row)
        except Exception as error:
            # An error of one training step must not stop the report of the other rows.
            problem = f'{type(error).__name__}: {error}'
            obstacles.append(Obstacle('not timed', ' '.join(problem.split())))
    return RowReport(table, row, cost, results, estimates, obstacles)


_estimates: dict[Path, list[Estimate]] = {}


def _estimate(path: Path, cfg: Config, row: Row) -> list[Estimate]:
    """A config's estimates. Each process makes them once."""
    if path not in _estimates:
        throughput = Throughput(cfg, row.train_size or row.size).measure
        _estimates[path] = estimate_training(cfg, row.data.train_images, throughput)
        torch.cuda.empty_cache()
    return _estimates[path]
