"""Draw the simplified and the exact recurrence: `python tools/figures/draw_recurrences.py`.

The upper row shows what one token takes from its neighbours and passes on to the next ones. The
lower row shows the paths from the upper-left token to another one, and their number.
"""

import argparse
import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

ROWS, COLUMNS = 3, 4
ROW, COLUMN, BOTH = '#1f5fa8', '#c2571a', '#444444'
"""Colours of the state along rows, of the state along columns, and of the rest."""


def draw_token(ax: Axes, exact: bool) -> None:
    """Draw one token, the states that come in at the left and above, and those that leave."""
    ax.add_patch(
        FancyBboxPatch((0, 0), 4, 4, boxstyle='round,pad=0.1', facecolor='#f4f4f4', edgecolor=BOTH)
    )
    p, q = (1, 1.3), (2.7, 3)
    if exact:
        _arrow(ax, (-1.2, 1.3), (3, 1.3), ROW, '$a_{00}$', (0.4, 1.02))
        _arrow(ax, (2.7, -1.2), (2.7, 2.6), COLUMN, '$a_{11}$', (2.78, 2.05))
        _arrow(ax, (0.9, 1.3), (2.55, 2.75), ROW, '$a_{10}$', (1.35, 2.3))
        _arrow(ax, (2.7, 0.3), (3.15, 1.1), COLUMN, '$a_{01}$', (3.05, 0.55))
        p = (3.3, 1.3)
        _state(ax, p, 'p', ROW)
        _state(ax, q, 'q', COLUMN)
        _arrow(ax, (3.65, 1.3), (5.2, 1.3), ROW)
        _arrow(ax, (2.7, 3.35), (2.7, 5.2), COLUMN)
        ax.text(0.25, 3.6, '+ $B_0 x$, $B_1 x$', fontsize=10, color=BOTH)
    else:
        _arrow(ax, (-1.2, 1.3), (0.65, 1.3), ROW, '$a_1$', (-0.6, 1.02))
        _arrow(ax, (1.35, 1.3), (5.2, 1.3), ROW)
        _arrow(ax, (2.7, -1.2), (2.7, 2.6), COLUMN, '$a_2$', (2.95, -0.6))
        _state(ax, p, 'p', ROW)
        _state(ax, q, 'q', COLUMN)
        _arrow(ax, (2.7, 3.35), (2.7, 5.2), COLUMN)
        _arrow(ax, (1.2, 1.6), (2.4, 2.75), BOTH, 'sum, gate', (0.35, 2.45))
        ax.text(0.25, 3.6, '+ $B x$ in p', fontsize=10, color=BOTH)
    ax.set(xlim=(-1.4, 5.4), ylim=(5.4, -1.4), aspect='equal')
    ax.axis('off')


def draw_ways(ax: Axes, exact: bool) -> None:
    """Draw the paths from the upper-left token to the lower-right one."""
    for y in range(ROWS):
        for x in range(COLUMNS):
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor='white', edgecolor='#b8b8b8'))
    for y in range(ROWS):
        for x in range(COLUMNS):
            if x + 1 < COLUMNS and (exact or y == 0):
                _arrow(ax, (x + 0.62, y + 0.5), (x + 1.38, y + 0.5), ROW)
            if y + 1 < ROWS and (exact or x == COLUMNS - 1):
                _arrow(ax, (x + 0.5, y + 0.62), (x + 0.5, y + 1.38), COLUMN)
    for x, y in ((0, 0), (COLUMNS - 1, ROWS - 1)):
        ax.plot(x + 0.5, y + 0.5, 'o', color='black', markersize=7)
    ways = math.comb(ROWS + COLUMNS - 2, ROWS - 1) if exact else 1
    ax.set_title(f'{ways} ways' if ways > 1 else 'one way: along the row, then down', fontsize=10)
    ax.set(xlim=(-0.1, COLUMNS + 0.1), ylim=(ROWS + 0.1, -0.1), aspect='equal')
    ax.axis('off')


def _state(ax: Axes, place: tuple[float, float], name: str, colour: str) -> None:
    ax.plot(*place, 'o', color='white', markeredgecolor=colour, markersize=19, zorder=3)
    ax.text(*place, name, color=colour, ha='center', va='center', fontsize=11, zorder=4)


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    label: str = '',
    at: tuple[float, float] = (0, 0),
) -> None:
    how = dict(arrowstyle='-|>', color=colour, linewidth=1.4, shrinkA=0, shrinkB=0)
    ax.annotate('', xy=end, xytext=start, arrowprops=how, zorder=2)
    if label:
        ax.text(*at, label, color=colour, fontsize=10, ha='left', va='center')


def draw(path: Path) -> None:
    """Draw both recurrences side by side and save the figure."""
    figure = Figure(figsize=(8.5, 6.6), layout='constrained')
    panels = figure.subplots(2, 2, height_ratios=(1.5, 1))
    for column, exact in enumerate((False, True)):
        draw_token(panels[0, column], exact)
        title = 'exact: both states take from both' if exact else 'simplified: p first, then q'
        panels[0, column].set_title(title, fontsize=11)
        draw_ways(panels[1, column], exact)
    figure.supxlabel(
        'blue: the state along rows; orange: the state along columns, from the upper left',
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata=dict(Software=None))


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description='Draw the simplified and the exact recurrence')
    parser.add_argument('--out', type=Path, default=Path('docs/images/recurrences.png'))
    args = parser.parse_args()
    draw(args.out)


if __name__ == '__main__':
    main()
