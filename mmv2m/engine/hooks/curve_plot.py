"""A picture of how a training went."""

import json
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmv2m.registry import HOOKS

__all__ = ['CurvePlotHook']

Points = dict[str, dict[float, float]]


@HOOKS.register_module()
class CurvePlotHook(Hook):
    """Draw a training's losses and metrics when it ends, also what came before a resume.

    Args:
        filename: Name of the picture in the work dir. Defaults to ``'curves.png'``.
    """

    def __init__(self, filename: str = 'curves.png') -> None:
        self.filename = filename

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Draw the curves from the scalars that the runs in the work dir logged."""
        epoch_length = len(runner.train_dataloader) if runner.train_loop._max_epochs else 1
        losses, metrics = read_scalars(Path(runner.work_dir), epoch_length)
        if not losses and not metrics:
            runner.logger.warning('CurvePlotHook: no scalars were logged, nothing to draw')
            return
        path = Path(runner.work_dir, self.filename)
        draw_curves(losses, metrics, 'epoch' if epoch_length > 1 else 'iteration').savefig(path)
        runner.logger.info(f'The curves of this training are in {path}')


def read_scalars(work_dir: Path, epoch_length: int = 1) -> tuple[Points, Points]:
    """Collect what a LocalVisBackend wrote, over all runs of a work dir; later runs win.

    Args:
        work_dir: The work dir.
        epoch_length: Iterations an epoch; losses, logged by iteration, are placed by epoch.

    Returns:
        Losses and metrics, each as {name: {position: value}}.
    """
    losses: Points = defaultdict(dict)
    metrics: Points = defaultdict(dict)
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            # Validation entries have no learning rate.
            training = 'lr' in entry
            for name, value in entry.items():
                if training and 'loss' in name and 'grad' not in name:
                    losses[name][entry['iter'] / epoch_length] = value
                elif not training and name not in ('step', 'time', 'data_time'):
                    metrics[name][entry['step']] = value
    return losses, metrics


def draw_curves(losses: Points, metrics: Points, unit: str) -> Figure:
    """Losses on the left, metrics on the right.

    Args:
        losses: {name: {position: value}}.
        metrics: The same.
        unit: What positions count.
    """
    figure = Figure(figsize=(10, 4), layout='constrained', dpi=150)
    for axes, title, curves in zip(
        figure.subplots(1, 2), ('Training loss', 'Validation'), (losses, metrics), strict=True
    ):
        for name, points in curves.items():
            positions = sorted(points)
            axes.plot(positions, [points[p] for p in positions], marker='.', label=name)
        axes.set(title=title, xlabel=unit)
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
