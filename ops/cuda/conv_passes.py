"""Which directions each launch of the convolution's backward pass walks along."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

from ..directions import Direction

__all__ = ['ConvPass', 'Positions', 'plan_passes']


class Positions(ctypes.Structure):
    """``Positions`` in conv_walk.cuh."""

    _fields_ = [(name, ctypes.c_int) for name in ('first', 'opposite', 'last_lanes_first', 'adds')]


class ConvPass(NamedTuple):
    """One launch.

    Attributes:
        walks: Directions along which it walks.
        senses: How many directions one walk computes: its own, or the opposite one too.
        positions: Of the first walk's direction and of the opposite one among all.
    """

    walks: Sequence[Direction]
    senses: int
    positions: tuple[int, int]


def plan_passes(directions: Sequence[Direction], share: bool) -> list[ConvPass]:
    """The launches for some directions, one after the other.

    Args:
        directions: All of a call.
        share: Whether they share a map. Then they add to its gradient one after the other, opposite
            ones in one walk. Otherwise all directions are one launch's.
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
