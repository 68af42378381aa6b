"""A study's results as a picture."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from mmv2m.engine.hooks.figure import require_matplotlib

from .plan import Comparison
from .summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ['draw_summary']


def draw_summary(summary: Summary, path: Path) -> None:
    """Draw every run as a dot and every arm's mean as a line, a panel for each comparison.

    Args:
        summary: The results. There has to be at least one.
        path: File of the picture.

    Raises:
        ImportError: If matplotlib is missing.
    """
    comparisons = [c for c in summary.comparisons if any(map(summary.values, c.arms))]
    heights = [len(c.arms) + 1.2 for c in comparisons]
    figure = require_matplotlib('tools/study.py')(
        figsize=(8, 0.42 * sum(heights) + 0.4), layout='constrained'
    )
    panels = figure.subplots(
        len(heights), squeeze=False, sharex=True, gridspec_kw=dict(height_ratios=heights)
    )
    for ax, comparison in zip(panels[:, 0], comparisons, strict=True):
        _draw_comparison(ax, summary, comparison)
    panels[-1, 0].set_xlabel(f'{summary.study.data.metrics[0].label}, %')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata=dict(Software=None))


def _draw_comparison(ax: Axes, summary: Summary, comparison: Comparison) -> None:
    for y, arm in enumerate(comparison.arms):
        values = list(summary.values(arm).values())
        ax.plot(values, [y] * len(values), 'o', color='#1f5fa8', alpha=0.7, markersize=5)
        if values:
            mean = statistics.fmean(values)
            ax.plot([mean, mean], [y - 0.3, y + 0.3], color='#c2571a', linewidth=2)
    ax.set_yticks(range(len(comparison.arms)), [arm.name for arm in comparison.arms])
    ax.set_ylim(len(comparison.arms) - 0.4, -0.6)
    ax.set_title(comparison.title, fontsize=10, loc='left')
    ax.grid(axis='x', color='#dddddd')
