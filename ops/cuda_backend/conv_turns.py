"""Which directions each launch of the convolution's backward pass serves."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

from ..directions import Direction, get_direction

__all__ = ['Positions', 'Turn', 'plan_turns']


class Positions(ctypes.Structure):
    """``Positions`` in conv_walk.cuh."""

    _fields_ = [(name, ctypes.c_int) for name in ('first', 'opposite', 'last_lanes_first', 'adds')]


class Turn(NamedTuple):
    """A launch.

    Attributes:
        walks: Directions along which it walks.
        senses: How many directions a walk serves: the one along it, or the opposite one too.
        positions: Of the first walk's direction and of the opposite one among all.
    """

    walks: list[Direction]
    senses: int
    positions: tuple[int, int]


def plan_turns(directions: Sequence[str], share: bool) -> list[Turn]:
    """The launches for some directions, one after the other.

    Args:
        directions: Names.
        share: Whether they share a map, whose gradient they add to in turn: opposite ones in one
            walk then. Those that share none are one launch's.
    """
    walks = [get_direction(name) for name in directions]
    if not share or len(walks) == 1:
        return [Turn(walks, 1, (0, 0))]
    turns = []
    for axis in (2, 1):
        along, against = (
            [k for k, walk in enumerate(walks) if walk == Direction(axis, reverse)]
            for reverse in (False, True)
        )
        pairs = list(zip(along, against, strict=False))
        turns += [Turn([walks[k]], 2, (k, opposite)) for k, opposite in pairs]
        left = along[len(pairs) :] + against[len(pairs) :]
        turns += [Turn([walks[k]], 1, (k, 0)) for k in left]
    return turns
