"""Draw how the 2D scan walks from the four corners: `python tools/figures/draw_corners.py`.

The directions are read from the layer, so the figure always agrees with it.
"""

import argparse
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# The clone that this file belongs to comes first, whether or not mmv2m is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmv2m.packages import exit_without_libraries  # noqa: E402

exit_without_libraries()

from mmv2m.ops import CORNERS  # noqa: E402

ROWS, COLUMNS = 4, 5
TOKEN = (1, 2)
"""Row and column of the token whose view is shaded."""
STEPS = dict(right=(0, 1), left=(0, -1), down=(1, 0), up=(-1, 0))
"""Change of row and column from one step of a walk to the next, by direction."""
NAMES = dict(UL='upper left', LR='lower right', UR='upper right', LL='lower left')
FIRST, SECOND, VIEW = '#1f5fa8', '#c2571a', '#dce8f5'


def start_of(corner: str) -> tuple[int, int]:
    """Return the row and column of the token at a corner, where its two walks begin."""
    (y1, x1), (y2, x2) = (STEPS[direction.name] for direction in CORNERS[corner][:2])
    return (0 if y1 + y2 > 0 else ROWS - 1), (0 if x1 + x2 > 0 else COLUMNS - 1)


def draw_corner(ax: Axes, corner: str) -> None:
    """Draw one corner: the token's view, the first scan's walks, and the second scan's."""
    first, second = (direction.name for direction in CORNERS[corner][:2])
    rows, columns = (sorted(pair) for pair in zip(start_of(corner), TOKEN, strict=True))
    for y in range(ROWS):
        for x in range(COLUMNS):
            seen = rows[0] <= y <= rows[1] and columns[0] <= x <= columns[1]
            face = VIEW if seen else 'white'
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor='#b8b8b8'))
    for direction, colour, aside in ((first, FIRST, -0.16), (second, SECOND, 0.16)):
        _draw_walks(ax, direction, colour, aside)
    y, x = start_of(corner)
    ax.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor='black', linewidth=2.5, zorder=4))
    ax.plot(TOKEN[1] + 0.5, TOKEN[0] + 0.5, 'o', color='black', markersize=7, zorder=5)
    ax.set_title(f'{corner}, {NAMES[corner]}\nfirst {first}, then {second}', fontsize=10)
    ax.set(xlim=(-0.1, COLUMNS + 0.1), ylim=(ROWS + 0.1, -0.1), aspect='equal')
    ax.axis('off')


def _draw_walks(ax: Axes, direction: str, colour: str, aside: float) -> None:
    """Draw one arrow along each row or column, a little off its middle."""
    dy, dx = STEPS[direction]
    for lane in range(ROWS if dx else COLUMNS):
        length = COLUMNS if dx else ROWS
        ends = (0.2, length - 0.2) if dy + dx > 0 else (length - 0.2, 0.2)
        middle = lane + 0.5 + aside
        points = [(end, middle) if dx else (middle, end) for end in ends]
        ax.annotate(
            '',
            xy=points[1],
            xytext=points[0],
            arrowprops=dict(arrowstyle='-|>', color=colour, linewidth=1.2, shrinkA=0, shrinkB=0),
        )


def draw(path: Path) -> None:
    """Draw all corners side by side and save the figure."""
    figure = Figure(figsize=(12, 3.3), layout='constrained')
    for ax, corner in zip(figure.subplots(1, len(CORNERS)), CORNERS, strict=True):
        draw_corner(ax, corner)
    figure.supxlabel(
        'blue: first scan; orange: second scan; shaded: what the dot has seen after both',
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata=dict(Software=None))


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description='Draw how the 2D scan walks')
    parser.add_argument('--out', type=Path, default=Path('docs/images/corners.png'))
    args = parser.parse_args()
    draw(args.out)


if __name__ == '__main__':
    main()
