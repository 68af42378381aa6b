"""The orders in which LocalVim's scans read the tokens of a map.

A scan walks over one sequence, and its state runs on from row to row, column to column or window to
window. The sequence of rows is the map itself, and its flip is the same sequence walked backwards,
so neither takes a copy. The tokens of columns and windows are not at equal distances in memory, so
they have to be copied in order.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from .corner_ssm import pad_to_windows
from .sequence_ssm import as_sequence

__all__ = ['LAYOUTS', 'Layout', 'ScanOrder', 'parse_scans', 'to_map', 'to_sequence']


class Layout(NamedTuple):
    """The way in which the tokens of a map become one sequence.

    Attributes:
        to_sequence: Function of ``(x, side)`` from (B, H, W, E) to (B, 1, L, E). L is H * W, or
            more if the map is padded. The result is a view if possible.
        to_map: Function of ``(y, side, size)`` back to (B, *size, E). The result is a view if
            possible.
        in_windows: Whether the layout has windows, whose side stands behind its name.
    """

    to_sequence: Callable[[Tensor, int], Tensor]
    to_map: Callable[[Tensor, int, tuple[int, int]], Tensor]
    in_windows: bool = False


def _read_rows(x: Tensor, side: int) -> Tensor:
    return as_sequence(x)


def _write_rows(y: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    return y.reshape(y.shape[0], *size, y.shape[-1])


def _read_columns(x: Tensor, side: int) -> Tensor:
    return as_sequence(x.transpose(1, 2))


def _write_columns(y: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    return y.reshape(y.shape[0], *size[::-1], y.shape[-1]).transpose(1, 2)


def _read_windows(x: Tensor, side: int) -> Tensor:
    """Read windows row by row, and the tokens in each window too.

    A map into which windows do not fit is padded with zeros at the bottom and the right. LocalVim's
    states run through this padding too.
    """
    x = pad_to_windows(x, side)
    x = x.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return x.transpose(2, 3).flatten(1, 4).unsqueeze(1)


def _write_windows(y: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    rows, columns = (-(-length // side) for length in size)
    y = y.reshape(y.shape[0], rows, columns, side, side, y.shape[-1]).transpose(2, 3)
    return y.flatten(3, 4).flatten(1, 2)[:, : size[0], : size[1]]


LAYOUTS: dict[str, Layout] = {
    'h': Layout(_read_rows, _write_rows),
    'v': Layout(_read_columns, _write_columns),
    'w': Layout(_read_windows, _write_windows, in_windows=True),
}
"""Layouts row by row, column by column and window by window."""


class ScanOrder(NamedTuple):
    """One of LocalVim's scans.

    Attributes:
        layout: A key of :data:`LAYOUTS`.
        side: Tokens along a window's side; 0 for layouts without windows.
        direction: ``'right'``, or ``'left'`` for the same sequence backwards.
    """

    layout: str
    side: int
    direction: str


def parse_scans(names: Sequence[str]) -> tuple[ScanOrder, ...]:
    """Parse the names of a block's scans.

    Args:
        names: Different names: ``'h'``, ``'v'`` or ``'w<side>'``, each also with ``'_flip'``.
            ``<side>`` is the side of the windows in tokens.

    Raises:
        ValueError: If there is no scan, one is unknown, or one comes twice.
    """
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise ValueError(f"scans of a block must be names such as 'h' and 'w7_flip'; got {names!r}")
    orders = tuple(map(_parse_scan, names))
    for k, order in enumerate(orders):
        if order in orders[:k]:
            raise ValueError(f'the scans of a block must differ, but {names[k]!r} comes twice')
    return orders


def _parse_scan(name: str) -> ScanOrder:
    found = re.fullmatch(r'([a-z]+)([1-9]\d*)?(_flip)?', str(name))
    layout, side, flip = found.groups() if found else ('', None, None)
    if layout not in LAYOUTS or LAYOUTS[layout].in_windows != (side is not None):
        names = [f'{key}<side>' if one.in_windows else key for key, one in LAYOUTS.items()]
        known = f'{", ".join(names[:-1])} or {names[-1]}'
        raise ValueError(f'a scan must be {known}, or one with _flip; got {name!r}')
    return ScanOrder(layout, int(side or 0), 'left' if flip else 'right')


def to_sequence(x: Tensor, order: ScanOrder) -> Tensor:
    """Lay out the tokens of a map as one sequence.

    Args:
        x: (B, H, W, E).
        order: The order. Its direction is left to the scan.

    Returns:
        (B, 1, L, E). L is H * W, or more if the map is padded. For rows of a contiguous map, it is
        a view of ``x``.
    """
    return LAYOUTS[order.layout].to_sequence(x, order.side)


def to_map(y: Tensor, order: ScanOrder, size: tuple[int, int]) -> Tensor:
    """Undo :func:`to_sequence`: (B, 1, L, E) to (B, *size, E), which is a view if possible."""
    return LAYOUTS[order.layout].to_map(y, order.side, size)
