"""In which order LocalVim's scans take the tokens of a map.

A scan walks over one sequence, its state running on from row to row, column to column or window to
window. The sequence of rows is the map itself and its flip the same sequence walked backwards; both
are free. Columns and windows are not at equal distances in memory and have to be copied in order.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .sequence_ssm import as_sequence

__all__ = ['ScanOrder', 'parse_scans', 'to_map', 'to_sequence']


class ScanOrder(NamedTuple):
    """One of LocalVim's scans.

    Attributes:
        layout: ``'h'``: row by row; ``'v'``: column by column; ``'w'``: window by window.
        side: Tokens along a window's side; 0 for the other layouts.
        direction: ``'right'``, or ``'left'`` for the same sequence backwards.
    """

    layout: str
    side: int
    direction: str


def parse_scans(names: Sequence[str]) -> tuple[ScanOrder, ...]:
    """The scans of a block.

    Args:
        names: ``'h'``, ``'v'`` or ``'w<side>'``, each also with ``'_flip'``; none twice.

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
    found = re.fullmatch(r'(?:([hv])|w([1-9]\d*))(_flip)?', str(name))
    if not found:
        raise ValueError(f'a scan must be h, v or w<side>, or one with _flip; got {name!r}')
    layout, side, flip = found.groups()
    return ScanOrder(layout or 'w', int(side or 0), 'left' if flip else 'right')


def to_sequence(x: Tensor, order: ScanOrder) -> Tensor:
    """The tokens of a map one after the other.

    Windows are read row by row, and so are their tokens. A map into which they do not fit is padded
    with zeros at the bottom and the right; LocalVim's states run through this padding too.

    Args:
        x: (B, H, W, E).
        order: The order; its direction is left to the scan.

    Returns:
        (B, 1, L, E); L is H * W, or more where a map is padded. A view of ``x`` for rows.
    """
    if order.layout == 'h':
        return as_sequence(x)
    if order.layout == 'v':
        return as_sequence(x.transpose(1, 2))
    below, right = (-length % order.side for length in x.shape[1:3])
    if below or right:
        x = F.pad(x, (0, 0, 0, right, 0, below))
    x = x.unflatten(2, (-1, order.side)).unflatten(1, (-1, order.side))
    return x.transpose(2, 3).reshape(x.shape[0], 1, -1, x.shape[-1])


def to_map(y: Tensor, order: ScanOrder, size: tuple[int, int]) -> Tensor:
    """The opposite of :func:`to_sequence`: (B, 1, L, E) to (B, *size, E), a view if possible."""
    if order.layout == 'h':
        return y.reshape(y.shape[0], *size, -1)
    if order.layout == 'v':
        return y.reshape(y.shape[0], *size[::-1], -1).transpose(1, 2)
    rows, columns = (-(-length // order.side) for length in size)
    y = y.reshape(y.shape[0], rows, columns, order.side, order.side, -1).transpose(2, 3)
    return y.flatten(3, 4).flatten(1, 2)[:, : size[0], : size[1]]
