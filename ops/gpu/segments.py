"""Segments of long lanes, which are scanned at the same time if there are few lanes.

The state that leaves a segment is linear in the state that enters it. A first pass computes the
coefficients of each segment, a second pass chains the segments, and the scan itself starts each
segment from the right state. That costs another pass over the input, but uses all of a GPU that a
few long sequences would leave idle.
"""

from typing import NamedTuple

__all__ = ['Segments']


class Segments(NamedTuple):
    """The segments of a lane.

    Attributes:
        number: Number of segments.
        steps: Tokens of a segment; the last one may have fewer.
    """

    number: int
    steps: int
