"""From which corners the 2D SSM starts, which way it walks from each, and who shares parameters.

The 2D SSM ``F`` starts at the upper-left corner: rows along W, then columns along H. Starting it at
another corner is a quarter turn of the grid before and after (Eq. 13-15), which comes to the same
as walking in two other directions: a turned map is never made.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .scan_orders import parse_scans

__all__ = [
    'CORNERS',
    'GEOMETRIES',
    'MERGES',
    'ORDERS',
    'SHARES',
    'Route',
    'RouteGroup',
    'plan_groups',
    'plan_local_groups',
    'plan_routes',
]


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


class RouteGroup(NamedTuple):
    """Routes that share their parameters.

    Attributes:
        routes: The routes, all over the whole map or all inside windows.
        window: Side of the windows in tokens; 0 for the whole map.
    """

    routes: tuple[Route, ...]
    window: int = 0


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

SHARES = ('all', 'opposite', 'none')

ORDERS = ('one', 'both')

MERGES = ('sum', 'mean')

OPPOSITES: dict[str, tuple[str, str]] = dict(h=('UL', 'LR'), v=('UR', 'LL'))
"""Opposite corners, by the axis of their first scan: horizontal or vertical."""


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


def plan_groups(
    corners: Sequence[str], geometry: str, share: str, orders: str = 'one'
) -> dict[str, RouteGroup]:
    """The routes of a 2D SSM over the whole map, by the parameters they share.

    Args:
        corners: See :func:`plan_routes`.
        geometry: See :func:`plan_routes`.
        share: ``'all'``: all corners share one parameter set (the group ``'all'``);
            ``'opposite'``: opposite corners share one (the groups ``'h'``, UL and LR, and ``'v'``,
            UR and LL); ``'none'``: each has its own (the groups ``'ul'``, ``'lr'``, ...).
        orders: ``'one'``: Eq. 7's, which walks along the first axis, then along the second;
            ``'both'``: from each corner Eq. 8's too, the other way round, in groups of their own
            with ``_swapped`` behind the name, since Eq. 8 has its own parameters.

    Raises:
        ValueError: If an option is unknown, or the released geometry does not share all parameters
            or is asked for in both orders.
    """
    routes = plan_routes(corners, geometry)
    for name, value, choices in (('share', share, SHARES), ('orders', orders, ORDERS)):
        if value not in choices:
            raise ValueError(f'{name} must be one of {", ".join(choices)}, but got {value!r}')
    if geometry != 'paper' and (share != 'all' or orders != 'one'):
        raise ValueError(
            "geometry='released' shares all parameters and has one order: use share='all' and "
            "orders='one'"
        )
    if share == 'all':
        groups = dict(all=RouteGroup(routes))
    elif share == 'none':
        groups = {c.lower(): RouteGroup((CORNERS[c],)) for c in corners}
    else:
        chosen = {axis: [c for c in corners if c in pair] for axis, pair in OPPOSITES.items()}
        groups = {a: RouteGroup(tuple(CORNERS[c] for c in cs)) for a, cs in chosen.items() if cs}
    if orders == 'one':
        return groups
    swapped = {
        f'{name}_swapped': RouteGroup(tuple(Route(r.second, r.first) for r in group.routes))
        for name, group in groups.items()
    }
    return groups | swapped


def plan_local_groups(scans: Sequence[str]) -> dict[str, RouteGroup]:
    """The 2D SSMs in the place of a LocalVim block's scans, by the parameters they share.

    A scan becomes the 2D SSM whose first half walks the way that the scan's neighbouring tokens
    do: ``h`` starts at UL, ``h_flip`` at LR, ``v`` at UR (down), ``v_flip`` at LL (up), so that all
    four together are V2M's four corners. A scan through windows becomes a 2D SSM inside each
    window: ``w7`` from its UL, ``w7_flip`` from its LR. A scan and its flip share parameters.

    Args:
        scans: Different names: ``'h'``, ``'v'`` or ``'w<side>'``, each also with ``'_flip'``.

    Returns:
        Groups by the names' first part.

    Raises:
        ValueError: If there is no scan, one is unknown, or one comes twice.
    """
    groups: dict[str, RouteGroup] = {}
    for order in parse_scans(scans):
        name = order.layout + (str(order.side) if order.side else '')
        corner = OPPOSITES['v' if order.layout == 'v' else 'h'][order.direction == 'left']
        before = groups[name].routes if name in groups else ()
        groups[name] = RouteGroup((*before, CORNERS[corner]), order.side)
    return groups
