"""The command line of tools/study.py, and its actions."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmv2m.engine.cli import OptionsAction
from mmv2m.engine.config import load_config
from mmv2m.engine.errors import UserError
from mmv2m.engine.records import load_record, load_records
from mmv2m.reproduce.obstacles import find_obstacles
from mmv2m.reproduce.runs import Runs, train_row
from mmv2m.root import RECORDS, ROOT

from .at_once import gpus_of_slots, train_at_once
from .budget import Budget, expected_seconds
from .outcome import Outcomes
from .plan import Run, Study, load_study, plan_runs
from .plot import draw_summary
from .summary import Summary, update_page

__all__ = ['parse_study_args', 'study']

PLOT = Path('images/study.png')


def parse_study_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the command line.

    Args:
        argv: The arguments. None means the command line of the process.

    Raises:
        UserError: If ``--cfg-options`` cannot be read, or arguments do not go together.
    """
    parser = ArgumentParser(
        description='The reduced-scale study: trains the runs that have no record yet. The same '
        'command continues a study that was stopped'
    )
    parser.add_argument(
        '--runs', nargs='+', default=[], help='comparisons, or configs without .py; default: all'
    )
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0, 1, 2], help='seeds of the runs; default: 0 1 2'
    )
    parser.add_argument('--list', action='store_true', help='list the runs and train nothing')
    parser.add_argument('--summary', action='store_true', help='print the results, train nothing')
    parser.add_argument(
        '--out', type=Path, help='with --summary: put table and plot into this folder, at study.md'
    )
    parser.add_argument(
        '--budget-minutes',
        type=float,
        help='start no run that would end later than this number of minutes from now',
    )
    parser.add_argument(
        '--at-once',
        type=int,
        default=1,
        metavar='N',
        help='number of runs at a time, which share the GPUs (default: 1)',
    )
    parser.add_argument(
        '--study',
        type=Path,
        default=ROOT / 'configs' / 'studies' / 'cifar10.yml',
        help="the study's file; default: configs/studies/cifar10.yml",
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/study'))
    parser.add_argument(
        '--records',
        type=Path,
        default=RECORDS / 'cifar10',
        help='folder of the records; default: records/cifar10 in the clone, or here without one',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        default={},
        metavar='KEY=VALUE',
        help="settings that replace the configs'; their results are a study of their own",
    )
    args = parser.parse_args(argv)
    if args.list and args.summary:
        raise UserError('--list and --summary: give one of the two')
    if args.out and not args.summary:
        raise UserError('--out says where the summary goes: give --summary too')
    if args.at_once < 1:
        raise UserError(f'--at-once must be positive: {args.at_once}')
    if any(seed < 0 for seed in args.seeds):
        raise UserError(f'--seeds must not be negative: {args.seeds}')
    if args.budget_minutes is not None and args.budget_minutes <= 0:
        raise UserError(f'--budget-minutes must be positive: {args.budget_minutes}')
    return args


def study(args: Namespace) -> int:
    """Do what the command line says.

    Args:
        args: The arguments, from :func:`parse_study_args`.

    Returns:
        The exit status: 1 if a run failed, 130 if the user stopped it, and 0 otherwise. A budget
        that ended gives 0.

    Raises:
        UserError: If the study or a record cannot be read, a run is unknown, or one cannot be
            trained here.
    """
    plan = load_study(args.study)
    comparisons = plan.select(args.runs)
    runs = plan_runs(comparisons, args.seeds)
    outcomes = _outcomes(args)
    if args.summary:
        _summarise(Summary(plan, comparisons, outcomes, args.seeds), args.out)
        return 0
    todo = [run for run in runs if outcomes.of_run(run) is None]
    if args.list:
        _list(runs, todo, outcomes)
        return 0
    print(f'{len(runs) - len(todo)} of {len(runs)} runs are done', flush=True)
    _check(todo, args)
    try:
        return _train(todo, plan, args)
    except KeyboardInterrupt:
        print('stopped; the same command continues the study', file=sys.stderr, flush=True)
        return 130


def _outcomes(args: Namespace) -> Outcomes:
    return Outcomes(load_records(args.records), args.cfg_options)


def _check(todo: Sequence[Run], args: Namespace) -> None:
    """Find what is missing before the first run."""
    for config in dict.fromkeys(run.config for run in todo):
        cfg = load_config(str(config), args.cfg_options)
        for obstacle in find_obstacles(cfg, training=True, cpu=True):
            raise UserError(f'{config.stem}: {obstacle.kind}: {obstacle.message}')


def _train(todo: Sequence[Run], plan: Study, args: Namespace) -> int:
    runs = _allowed(todo, plan, args)
    if args.at_once > 1:
        slots, logs = gpus_of_slots(args.at_once), args.work_dir / 'output'
        failed = train_at_once(runs, lambda run: _command(run, plan, args), logs, slots)
    else:
        failed = sum(not _train_one(run, plan, args) for run in runs)
    return int(failed > 0)


def _allowed(todo: Sequence[Run], plan: Study, args: Namespace) -> Iterator[Run]:
    """Announce and yield runs one after the other, until the budget ends."""
    budget = Budget(args.budget_minutes)
    configs = [arm.config for c in plan.comparisons for arm in c.arms]
    for number, run in enumerate(todo, 1):
        expected = expected_seconds(run.config, configs, _outcomes(args))
        if not budget.allows(expected):
            print(
                f'stopping before {run.name}, which may take {expected / 60:.1f} minutes; the same '
                f'command goes on with it and {len(todo) - number} more',
                flush=True,
            )
            return
        print(f'[{number}/{len(todo)}] {run.name}', flush=True)
        yield run


def _command(run: Run, plan: Study, args: Namespace) -> list[str]:
    """The command line of the training of one run."""
    paths = {'--study': plan.path, '--work-dir': args.work_dir, '--records': args.records}
    command = [sys.executable, str(ROOT / 'tools/study.py'), '--runs', run.config.stem]
    command += ['--seeds', str(run.seed)]
    command += [word for option, path in paths.items() for word in (option, str(path))]
    if args.cfg_options:
        command += [
            '--cfg-options',
            *(f'{key}={args.cfg_options[key]}' for key in args.cfg_options),
        ]
    return command


def _train_one(run: Run, plan: Study, args: Namespace) -> bool:
    runs = Runs(args.work_dir, args.records, seed=run.seed, options=args.cfg_options)
    try:
        path = train_row(run.row(plan.data), run.config, runs)
    except UserError as error:
        print(f'{run.name}: {error}', file=sys.stderr, flush=True)
        return False
    metrics = load_record(path).metrics
    print(f'{run.name}: {plan.metric} {metrics[plan.metric]:.2f}, in {path}', flush=True)
    return True


def _list(runs: Sequence[Run], todo: Sequence[Run], outcomes: Outcomes) -> None:
    for run in runs:
        record = outcomes.of_run(run)
        state = 'to do' if record is None else f'done in {record.seconds:.0f} s'
        print(f'{run.name:40} {state}')
    print(f'{len(runs) - len(todo)} of {len(runs)} runs are done')


def _summarise(summary: Summary, out: Path | None) -> None:
    print(summary.as_markdown())
    if out is None:
        return
    if summary.any_results:
        draw_summary(summary, out / PLOT)
    plot = PLOT.as_posix() if summary.any_results else None
    update_page(out / 'study.md', summary.as_markdown(plot))
