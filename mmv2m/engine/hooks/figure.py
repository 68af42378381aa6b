"""matplotlib, imported only where something is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ['require_matplotlib']


def require_matplotlib(hook: str) -> type[Figure]:
    """Matplotlib's ``Figure``, which draws without a display.

    Args:
        hook: Name of the hook that draws, for the error.

    Raises:
        ImportError: If matplotlib is missing. The message says how to go on without it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f'{hook} draws with matplotlib, which is missing: pip install matplotlib, or take '
            f'{hook} out of custom_hooks'
        ) from error
    return Figure
