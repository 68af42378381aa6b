"""The command line of tools/reproduce.py, and its actions."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from mmv2m.engine.cli import OptionsAction
from mmv2m.engine.config import load_config
from mmv2m.engine.errors import UserError
from mmv2m.engine.preflight.files import check_checkpoint
from mmv2m.engine.preflight.weights import check_weights
from mmv2m.engine.records import load_records
from mmv2m.root import RECORDS, ROOT

from .markdown import as_markdown
from .obstacles import find_obstacles
from .placement import place
from .plain_data import as_csv, as_json
from .report import RowReport, report_rows
from .runs import Runs, test_checkpoint, train_row
from .tables import Row, Table, Tables, load_tables

__all__ = ['parse_reproduce_args', 'reproduce']


def parse_reproduce_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the command line.

    Args:
        argv: The arguments. None means the command line of the process.

    Raises:
        UserError: If ``--cfg-options`` cannot be read, arguments are impossible or do not go
            together, or the weights do not exist.
    """
    parser = ArgumentParser(
        description="The paper's tables, row by row: printed figures and measured ones, results of "
        'runs, and what a training costs here'
    )
    parser.add_argument('--table', default='all', help='1, 2, 3, 4, other or all (default: all)')
    parser.add_argument(
        '--rows', nargs='+', default=[], help='rows by name or config, such as V2M-T; default: all'
    )
    parser.add_argument('--out', type=Path, help='folder for reproduce.md, .csv and .json')
    parser.add_argument(
        '--run',
        action='store_true',
        help='train the rows, or go on where that stopped, test them, and record the results',
    )
    parser.add_argument('--checkpoint', help='test these weights of one row, and record the result')
    parser.add_argument('--gpus', type=int, default=1, help='GPUs of a run (default: 1)')
    parser.add_argument('--seed', type=int, default=0, help='seed of trainings (default: 0)')
    parser.add_argument('--weights', help='ImageNet weights for the backbones of --run')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/reproduce'),
        help="folder of the runs' folders (default: work_dirs/reproduce)",
    )
    parser.add_argument(
        '--records',
        type=Path,
        default=RECORDS,
        help="records' folder (default: records in the clone, or here without one)",
    )
    parser.add_argument(
        '--tables',
        type=Path,
        default=ROOT / 'configs' / 'tables.yml',
        help="tables' file (default: configs/tables.yml)",
    )
    parser.add_argument('--no-timing', action='store_true', help='do not time training steps')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help="settings for runs in the place of the configs'; such results are no longer the "
        "rows', unless they only say where data is and how fast it is read",
    )
    args = parser.parse_args(argv)
    if args.run and args.checkpoint:
        raise UserError('--run trains and --checkpoint tests: give one of the two')
    if args.gpus < 1:
        raise UserError(f'--gpus must be positive, but is {args.gpus}')
    if args.seed < 0:
        raise UserError(f'--seed must not be negative, but is {args.seed}')
    if args.weights:
        check_checkpoint(args.weights, '--weights')
    return args


def reproduce(args: Namespace) -> int:
    """Do what the command line says.

    Args:
        args: The arguments, from :func:`parse_reproduce_args`.

    Returns:
        The exit status: 1 if a run that was asked for has no result, else 0.

    Raises:
        UserError: If the tables or a record cannot be read, a row is unknown, or ``--out`` cannot
            be written to.
    """
    tables = load_tables(args.tables)
    chosen = tables.select(args.table, args.rows)
    load_records(args.records)  # errors in records are reported before any work is done
    if args.out:
        _make_folder(args.out)
    failed = 0
    if args.run or args.checkpoint:
        runs = Runs(
            args.work_dir, args.records, args.gpus, args.seed, args.cfg_options or {}, args.weights
        )
        failed = _run(tables, chosen, runs, args.checkpoint)
    timing = not (args.no_timing or args.run or args.checkpoint)
    # Libraries may print while they are imported, which is no part of the tables.
    with redirect_stdout(sys.stderr):
        reports = list(_with_progress(tables, chosen, args.records, timing))
    print(as_markdown(reports))
    if args.out:
        _write(reports, args.out)
    return int(failed > 0)


def _run(tables: Tables, chosen: Sequence[Table], runs: Runs, checkpoint: str | None) -> int:
    """Run all rows that can be run, and return how many have no result."""
    # A config may be in several tables, but is run once.
    rows = list({row.config: row for table in chosen for row in table.rows}.values())
    if checkpoint and len(rows) > 1:
        raise UserError(f'--checkpoint is for one row: name it by --rows; there are {len(rows)}')
    ready: list[Row] = []
    for row in rows:
        problems = list(_problems(row, tables, runs, [r.config for r in ready], checkpoint))
        for problem in problems:
            _say(f'{row.name} ({row.config}): cannot be run: {problem}')
        ready += [] if problems else [row]
    results = 0
    for number, row in enumerate(ready, 1):
        _say(f'[{number}/{len(ready)}] {row.name}: {"testing" if checkpoint else "training"}')
        try:
            file = _run_row(row, tables.config_path(row), runs, checkpoint)
            _say(f'{row.name}: the result is in {file}')
            results += 1
        except UserError as error:
            _say(f'{row.name}: {error}')
    return len(rows) - results


def _problems(
    row: Row, tables: Tables, runs: Runs, before: Sequence[str], checkpoint: str | None
) -> Iterator[str]:
    """The obstacles to a run of a row. ``before`` are the configs that are run before it."""
    path = tables.config_path(row)
    try:
        cfg = load_config(str(path), runs.options)
    except UserError as error:
        yield str(error)
        return
    checks: list[Callable[[], object]] = [lambda: place(cfg, runs.gpus)]
    if checkpoint:
        checks = [lambda: check_weights(cfg, checkpoint)]
    elif row.init not in before:
        checks.append(lambda: runs.pretrained(row, path))
    for check in checks:
        try:
            check()
        except UserError as error:
            yield str(error)
    obstacles = find_obstacles(cfg, training=not checkpoint, cpu=row.data.cpu, gpus=runs.gpus)
    yield from (f'{obstacle.kind}: {obstacle.message}' for obstacle in obstacles)


def _run_row(row: Row, config: Path, runs: Runs, checkpoint: str | None) -> Path:
    if checkpoint:
        return test_checkpoint(row, config, Path(checkpoint), runs)
    return train_row(row, config, runs)


def _with_progress(
    tables: Tables, chosen: Sequence[Table], records: Path, timing: bool
) -> Iterator[RowReport]:
    total = sum(len(table.rows) for table in chosen)
    names = iter([row.name for table in chosen for row in table.rows])
    reports = report_rows(tables, chosen, load_records(records), timing)
    for number in range(1, total + 1):
        _say(f'[{number}/{total}] {next(names)}')
        yield next(reports)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--out {folder} cannot be made: {error.strerror}') from error
    if not os.access(folder, os.W_OK):
        raise UserError(f'--out {folder} cannot be written to')


def _write(reports: Sequence[RowReport], folder: Path) -> None:
    for suffix, render in (('md', as_markdown), ('csv', as_csv), ('json', as_json)):
        (folder / f'reproduce.{suffix}').write_text(render(reports))
    _say(f'reproduce.md, reproduce.csv and reproduce.json are in {folder}')


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
