"""From which corners the 2D SSM starts, and which way it walks from each.

The 2D SSM ``F`` starts at the upper-left corner: rows along W, then columns along H. Starting it at
another corner is a quarter turn of the grid before and after (Eq. 13-15), which comes to the same
as walking in two other directions: a turned map is never made.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ['CORNERS', 'GEOMETRIES', 'Route', 'plan_routes']


class Route(NamedTuple):
    """One of the 2D SSMs whose outputs are summed.

    Attributes:
        first: Direction of the first scan, which takes the input projection B.
        second: Direction of the second scan, which takes the output projection C.
        flip: Axes of the gated (B, H, W, E) output that are flipped before summing; none in the
            paper.
    """

    first: str
    second: str
    flip: tuple[int, ...] = ()


CORNERS: dict[str, Route] = {
    'UL': Route('right', 'down'),
    'LR': Route('left', 'up'),
    'UR': Route('down', 'left'),
    'LL': Route('up', 'right'),
}
"""The corners in the order in which the paper's Table 4 adds them."""

RELEASED_ROUTES: tuple[Route, ...] = (
    Route('right', 'down'),
    Route('down', 'right'),
    Route('left', 'down', flip=(1,)),
    Route('up', 'right', flip=(2,)),
)
"""The four branches of the authors' released code, up to one transposition of their sum.

In its terms they are ``T F(X)``, ``F(T X)``, ``FH FV T F(FH X)`` and ``FH FV F(T FV X)``, with
``T`` the transpose and ``FH, FV`` the horizontal and vertical flip of the grid. As
``F(T X) = T G(X)``, with ``G`` walking down first, and ``T FH = FV T``, each is ``T`` of a walk
over ``X`` itself, flipped along one axis in the last two. The lower-right corner never occurs.
"""

GEOMETRIES = ('paper', 'released')


def plan_routes(corners: Sequence[str], geometry: str) -> tuple[Route, ...]:
    """The routes of a 2D SSM.

    Args:
        corners: One to four different keys of :data:`CORNERS`.
        geometry: ``'paper'``, or ``'released'`` for the branches of the authors' released code,
            which always has four.

    Raises:
        ValueError: If a corner or the geometry is unknown, a corner comes twice or none is given,
            or the released geometry is asked for with fewer than four corners.
    """
    known = ', '.join(CORNERS)
    valid = isinstance(corners, Sequence) and not isinstance(corners, str)
    if not valid or not corners or any(c not in tuple(CORNERS) for c in corners):
        raise ValueError(f'corners must be a sequence of {known}, but got {corners!r}')
    if len(set(corners)) < len(corners):
        raise ValueError(f'corners must differ from each other, but got {tuple(corners)}')
    if geometry not in GEOMETRIES:
        raise ValueError(f'geometry must be one of {", ".join(GEOMETRIES)}, but got {geometry!r}')
    if geometry == 'paper':
        return tuple(CORNERS[c] for c in corners)
    if len(corners) < len(CORNERS):
        raise ValueError(
            f"geometry='released' has four fixed branches; leave corners at its default ({known})"
        )
    return RELEASED_ROUTES
