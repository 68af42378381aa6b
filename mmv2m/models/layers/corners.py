"""The corners from which a 2D SSM starts, and the groups of them that share parameters."""

from collections.abc import Sequence

from mmv2m.ops import CORNERS, Corner, CornerGroup

from .checks import check_choices
from .scan_orders import parse_scans

__all__ = [
    'CORNERS',
    'GEOMETRIES',
    'MERGES',
    'ORDERS',
    'PROJECTS',
    'RECURRENCES',
    'SHARES',
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

That code computes ``T F(X)``, ``F(T X)``, ``FH FV T F(FH X)`` and ``FH FV F(T FV X)``, where ``T``
is the transpose and ``FH`` and ``FV`` are the horizontal and vertical flip of the grid. Let ``G``
be the scan that walks down first. Since ``F(T X) = T G(X)`` and ``T FH = FV T``, each branch is the
transpose of a walk over ``X`` itself, which the last two branches flip along one axis. The
lower-right corner never occurs.
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
    """Look up the corners of a 2D SSM.

    Args:
        corners: One to four different keys of :data:`CORNERS`.
        geometry: ``'paper'``, or ``'released'`` for the branches of the authors' released code,
            which always has four.

    Raises:
        ValueError: If a corner or the geometry is unknown, a corner comes twice, no corner is
            given, or the released geometry is asked for with fewer than four corners.
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
    """Group the corners of a 2D SSM over the whole map by the parameters that they share.

    Args:
        corners: See :func:`plan_corners`.
        geometry: See :func:`plan_corners`.
        share: With ``'all'``, all corners share one set of parameters (the group ``'all'``). With
            ``'opposite'``, opposite corners share one set (the groups ``'h'``, which is UL and LR,
            and ``'v'``, which is UR and LL). With ``'none'``, each corner has its own (the groups
            ``'ul'``, ``'lr'``, ...).
        orders: ``'one'`` is the order of Eq. 7, which walks along the first axis and then along the
            second one. With ``'both'``, each corner also walks in the order of Eq. 8, the other way
            round. Eq. 8 has its own parameters, so it has groups of its own, with ``_swapped``
            behind the name.

    Returns:
        The groups, by name.

    Raises:
        ValueError: If an option is unknown, or the released geometry is asked for without sharing
            all parameters or with both orders.
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
    """Group the 2D SSMs that replace a LocalVim block's scans by the parameters that they share.

    The first half of a 2D SSM walks in the same direction as the scan that it replaces: ``h``
    starts at UL, ``h_flip`` at LR, ``v`` at UR (down) and ``v_flip`` at LL (up). The four together
    are V2M's four corners. A scan through windows becomes a 2D SSM inside each window: ``w7``
    starts at the window's UL, ``w7_flip`` at its LR. A scan and its flip share parameters.

    Args:
        scans: Different names: ``'h'``, ``'v'`` or ``'w<side>'``, each also with ``'_flip'``.

    Returns:
        The groups, by the name of the scan without ``'_flip'``.

    Raises:
        ValueError: If there is no scan, one is unknown, or one comes twice.
    """
    groups: dict[str, CornerGroup] = {}
    for order, scan in zip(parse_scans(scans), scans, strict=True):
        if order.layout not in ('h', 'v', 'w'):
            raise ValueError(f'no 2D SSM replaces the scan {scan!r}')
        name = order.layout + (str(order.side) if order.side else '')
        corner = OPPOSITES['v' if order.layout == 'v' else 'h'][order.direction == 'left']
        before = groups[name].corners if name in groups else ()
        groups[name] = CornerGroup((*before, CORNERS[corner]), order.side)
    return groups


def check_local(corners: Sequence[str], geometry: str, share: str, orders: str) -> None:
    """Check that settings are at their defaults that the names of LocalVim's scans imply.

    Raises:
        ValueError: If one of them is not.
    """
    if tuple(corners) != tuple(CORNERS):
        raise ValueError('corners do not go with scans: the names of scans say where they start')
    if (geometry, share, orders) != ('paper', 'all', 'one'):
        raise ValueError(
            'scans have one geometry, and each shares its parameters with its flip alone: leave '
            "geometry at 'paper', share at 'all' and orders at 'one'"
        )


def check_coupled(recurrence: str, geometry: str, orders: str, projects: str, local: bool) -> None:
    """Check a 2D SSM's recurrence and its combination with other settings.

    Args:
        recurrence: ``'simplified'`` or ``'coupled'``.
        geometry: See :func:`plan_corners`.
        orders: See :func:`plan_groups`.
        projects: Whether ``'one'`` side of each scan depends on the token, or ``'both'``.
        local: Whether the model has LocalVim's scans.

    Raises:
        ValueError: If the recurrence or ``projects`` is unknown, or does not go with the other
            settings.
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
