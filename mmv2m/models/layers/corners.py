"""From which corners a 2D SSM starts, and which of them share parameters."""

from collections.abc import Sequence

from mmv2m.ops import CORNERS, Corner, CornerGroup

from .scan_orders import parse_scans

__all__ = [
    'CORNERS',
    'GEOMETRIES',
    'MERGES',
    'ORDERS',
    'PROJECTS',
    'RECURRENCES',
    'SHARES',
    'check_choices',
    'check_coupled',
    'check_local',
    'plan_groups',
    'plan_local_groups',
    'plan_corners',
]


RELEASED_CORNERS: tuple[Corner, ...] = (
    Corner.of('right', 'down'),
    Corner.of('down', 'right'),
    Corner.of('left', 'down', flip=(1,)),
    Corner.of('up', 'right', flip=(2,)),
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

RECURRENCES = ('simplified', 'coupled')

PROJECTS = ('one', 'both')

OPPOSITES: dict[str, tuple[str, str]] = dict(h=('UL', 'LR'), v=('UR', 'LL'))
"""Opposite corners, by the axis of their first scan: horizontal or vertical."""


def plan_corners(corners: Sequence[str], geometry: str) -> tuple[Corner, ...]:
    """The corners of a 2D SSM.

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
    return RELEASED_CORNERS


def plan_groups(
    corners: Sequence[str], geometry: str, share: str, orders: str = 'one'
) -> dict[str, CornerGroup]:
    """The corners of a 2D SSM over the whole map, by the parameters they share.

    Args:
        corners: See :func:`plan_corners`.
        geometry: See :func:`plan_corners`.
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
    chosen = plan_corners(corners, geometry)
    check_choices(share=(share, SHARES), orders=(orders, ORDERS))
    if geometry != 'paper' and (share != 'all' or orders != 'one'):
        raise ValueError(
            "geometry='released' shares all parameters and has one order: use share='all' and "
            "orders='one'"
        )
    if share == 'all':
        groups = dict(all=CornerGroup(chosen))
    elif share == 'none':
        groups = {c.lower(): CornerGroup((CORNERS[c],)) for c in corners}
    else:
        pairs = {axis: [c for c in corners if c in pair] for axis, pair in OPPOSITES.items()}
        groups = {a: CornerGroup(tuple(CORNERS[c] for c in cs)) for a, cs in pairs.items() if cs}
    if orders == 'one':
        return groups
    swapped = {
        f'{name}_swapped': CornerGroup(tuple(Corner(c.second, c.first) for c in group.corners))
        for name, group in groups.items()
    }
    return groups | swapped


def plan_local_groups(scans: Sequence[str]) -> dict[str, CornerGroup]:
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
    groups: dict[str, CornerGroup] = {}
    for order, scan in zip(parse_scans(scans), scans, strict=True):
        if order.layout not in ('h', 'v', 'w'):
            raise ValueError(f'there is no 2D SSM in the place of the scan {scan!r}')
        name = order.layout + (str(order.side) if order.side else '')
        corner = OPPOSITES['v' if order.layout == 'v' else 'h'][order.direction == 'left']
        before = groups[name].corners if name in groups else ()
        groups[name] = CornerGroup((*before, CORNERS[corner]), order.side)
    return groups


def check_choices(**settings: tuple[object, Sequence[object]]) -> None:
    """Raise a ValueError for a setting, given with its possible values, that is none of them."""
    for name, (value, choices) in settings.items():
        if value not in choices:
            possible = ', '.join(map(str, choices))
            raise ValueError(f'{name} must be one of {possible}, but got {value!r}')


def check_local(corners: Sequence[str], geometry: str, share: str, orders: str) -> None:
    """Raise a ValueError unless what the names of LocalVim's scans say is left at its default."""
    if tuple(corners) != tuple(CORNERS):
        raise ValueError('corners do not go with scans: the names of scans say where they start')
    if (geometry, share, orders) != ('paper', 'all', 'one'):
        raise ValueError(
            'scans have one geometry, and each shares its parameters with its flip alone: leave '
            "geometry at 'paper', share at 'all' and orders at 'one'"
        )


def check_coupled(recurrence: str, geometry: str, orders: str, projects: str, local: bool) -> None:
    """Check a 2D SSM's recurrence, and what it does not go with.

    Args:
        recurrence: ``'simplified'`` or ``'coupled'``.
        geometry: See :func:`plan_corners`.
        orders: See :func:`plan_groups`.
        projects: Whether ``'one'`` side of each scan depends on the token, or ``'both'``.
        local: Whether there are LocalVim's scans.

    Raises:
        ValueError: If the recurrence or ``projects`` is unknown, or they do not go with the others.
    """
    check_choices(recurrence=(recurrence, RECURRENCES), projects=(projects, PROJECTS))
    if geometry == 'released' and projects != 'one':
        raise ValueError("geometry='released' projects one side in each scan: use projects='one'")
    if recurrence == 'simplified':
        return
    if geometry == 'released':
        raise ValueError(
            "recurrence='coupled' does not go with geometry='released': the released code has the "
            "simplified recurrence; use geometry='paper'"
        )
    if local:
        raise ValueError(
            "recurrence='coupled' has no windows: use an arch without scans, or "
            "recurrence='simplified'"
        )
    if orders != 'one' or projects != 'one':
        raise ValueError(
            "recurrence='coupled' has both orders in one walk and projects both sides: leave "
            "orders and projects at 'one'"
        )
