"""The directions along which each launch of the convolution's backward pass walks."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

from ..directions import Direction

__all__ = ['ConvPass', 'Positions', 'plan_passes']


class Positions(ctypes.Structure):
    """The structure ``Positions`` in conv_walk.cuh."""

    _fields_ = [(name, ctypes.c_int) for name in ('first', 'opposite', 'last_lanes_first', 'adds')]


class ConvPass(NamedTuple):
    """One launch.

    Attributes:
        walks: Directions along which it walks.
        senses: Number of directions that one walk computes: 1 for its own, 2 for the opposite one
            too.
        positions: Index of the first walk's direction, and of the opposite one, among all
            directions.
    """

    walks: Sequence[Direction]
    senses: int
    positions: tuple[int, int]


def plan_passes(directions: Sequence[Direction], share: bool) -> list[ConvPass]:
    """Plan the launches for some directions, one after the other.

    Args:
        directions: All directions of a call.
        share: Whether they share a map. If so, they add to its gradient one after the other, and
            opposite directions share a walk. If not, one launch does all directions.
    """
    if not share or len(directions) == 1:
        return [ConvPass(directions, 1, (0, 0))]
    passes = []
    for axis in (2, 1):
        along, against = (
            [k for k, walk in enumerate(directions) if walk[:2] == (axis, reverse)]
            for reverse in (False, True)
        )
        pairs = list(zip(along, against, strict=False))
        passes += [ConvPass([directions[k]], 2, (k, opposite)) for k, opposite in pairs]
        left = along[len(pairs) :] + against[len(pairs) :]
        passes += [ConvPass([directions[k]], 1, (k, 0)) for k in left]
    return passes
