"""Maps of relative values side by side, on a logarithmic scale."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ['draw_heat_maps']

SMALLEST = 1e-4
"""The value of the darkest colour; the lightest is 1."""


def draw_heat_maps(
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    path: str | Path,
    dot: tuple[int, int] | None = None,
) -> None:
    """Draw maps in one row, with one scale of colours, and save the picture.

    Args:
        maps: Maps, each (H, W), with values from 0 to 1.
        titles: One title for each map.
        path: The picture to write. Its suffix determines the format.
        dot: Row and column that are marked in each map.

    Raises:
        ImportError: If matplotlib is not installed.
        OSError: If the file cannot be written.
    """
    try:
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('these pictures need matplotlib: pip install matplotlib') from error
    figure = Figure(figsize=(3.4 * len(maps) + 1, 3.6), layout='constrained')
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, values, title in zip(axes, maps, titles, strict=True):
        image = ax.imshow(np.clip(values, SMALLEST, 1), norm=LogNorm(SMALLEST, 1), cmap='magma')
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
        if dot is not None:
            ax.plot(dot[1], dot[0], 'o', color='tab:cyan', markersize=5)
    figure.colorbar(image, ax=list(axes), label='relative to the largest')
    figure.savefig(path, dpi=100, metadata=dict(Software=None))
