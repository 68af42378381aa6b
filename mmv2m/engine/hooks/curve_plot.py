"""A picture of how a training went."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmv2m.registry import HOOKS

from .figure import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['CurvePlotHook']

RUNS_KEY = 'curve_plot_runs'
Points = dict[str, dict[float, float]]


@HOOKS.register_module()
class CurvePlotHook(Hook):
    """Draw a training's losses and metrics when it ends, with its parts before a resume.

    Args:
        filename: Name of the picture in the work dir. Defaults to ``'curves.png'``.

    Raises:
        ImportError: If matplotlib is missing.
    """

    def __init__(self, filename: str = 'curves.png') -> None:
        require_matplotlib('CurvePlotHook')  # before the training, not after it
        self.filename = filename

    def before_train(self, runner: Runner) -> None:
        """Note where this run starts. Checkpoints hand the list on to a run that resumes."""
        start = runner.epoch if _by_epoch(runner) else runner.iter
        run = dict(name=Path(runner.log_dir).name, iteration=runner.iter, position=start)
        earlier = runner.message_hub.runtime_info.get(RUNS_KEY, [])
        runner.message_hub.update_info(RUNS_KEY, [*earlier, run])

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the curves from the scalars of this run and of the runs that it resumed."""
        by_epoch = _by_epoch(runner)
        losses, metrics = read_scalars(
            Path(runner.work_dir),
            runner.message_hub.get_info(RUNS_KEY),
            len(runner.train_dataloader) if by_epoch else 1,
        )
        if not losses and not metrics:
            runner.logger.warning('CurvePlotHook: no scalars were logged, nothing to draw')
            return
        path = Path(runner.work_dir, self.filename)
        draw_curves(losses, metrics, 'epoch' if by_epoch else 'iteration').savefig(path)
        runner.logger.info(f'The curves of this training are in {path}')


def _by_epoch(runner: Runner) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def read_scalars(
    work_dir: Path, runs: Sequence[dict], epoch_length: int = 1
) -> tuple[Points, Points]:
    """Collect the scalars that a LocalVisBackend wrote in a training and in the runs it resumed.

    Args:
        work_dir: The work dir.
        runs: The runs, oldest first. Each has the ``name`` of its folder, and the ``iteration`` and
            ``position`` at its start; positions count epochs or iterations, as logged metrics do.
            Entries of a run behind the start of the next one do not count, because the resume
            went back before them.
        epoch_length: Iterations in an epoch. Losses are logged by iteration, and placed by epoch.

    Returns:
        Losses and metrics, each as {name: {position: value}}.
    """
    losses: Points = defaultdict(dict)
    metrics: Points = defaultdict(dict)
    endless = dict(iteration=math.inf, position=math.inf)
    for run, following in zip(runs, [*runs[1:], endless], strict=True):
        file = work_dir / run['name'] / 'vis_data/scalars.json'
        for line in file.read_text().splitlines() if file.exists() else ():
            entry = json.loads(line)
            # Validation entries have no learning rate.
            training = 'lr' in entry
            if entry['step'] > following['iteration' if training else 'position']:
                continue
            for name, value in entry.items():
                if training and 'loss' in name and 'grad' not in name:
                    losses[name][entry['step'] / epoch_length] = value
                elif not training and name not in ('step', 'time', 'data_time'):
                    metrics[name][entry['step']] = value
    return losses, metrics


def draw_curves(losses: Points, metrics: Points, unit: str) -> Figure:
    """Draw losses on the left and metrics on the right.

    Args:
        losses: {name: {position: value}}.
        metrics: {name: {position: value}}.
        unit: Unit of the positions, ``'epoch'`` or ``'iteration'``.
    """
    figure = require_matplotlib('CurvePlotHook')(figsize=(10, 4), layout='constrained', dpi=150)
    for axes, title, curves in zip(
        figure.subplots(1, 2), ('Training loss', 'Validation'), (losses, metrics), strict=True
    ):
        for name, points in curves.items():
            positions = sorted(points)
            axes.plot(positions, [points[p] for p in positions], marker='.', label=name)
        axes.set(title=title, xlabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if curves:
            axes.legend()
    for name, points in metrics.items():
        last = max(points)
        figure.axes[1].annotate(
            f'{points[last]:.2f}',
            (last, points[last]),
            textcoords='offset points',
            xytext=(-4, -14),
            ha='right',
            gid=name,
        )
    return figure
