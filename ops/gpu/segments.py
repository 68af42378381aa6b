"""Cutting long lanes into segments that are scanned at once, where lanes are few.

The state that enters a segment is linear in what entered the one before. A first pass finds what
each segment adds and how far it lets the past decay, a second one chains the segments, and the scan
itself starts each of them from the right state. That costs another pass over the input, and keeps a
GPU busy that a few long sequences would leave idle.
"""

from typing import NamedTuple

__all__ = ['Segments']


class Segments(NamedTuple):
    """How lanes are cut.

    Attributes:
        number: Segments of a lane.
        steps: Tokens of each; the last one may have fewer.
    """

    number: int
    steps: int
