"""Where a lane of a map begins and how far its tokens are apart: all that a direction is."""

import triton
import triton.language as tl

__all__ = ['RUNTIME', 'lane_entry']

RUNTIME = [
    *('lanes', 'lanes_per_program', 'length', 'width', 'tokens', 'maps'),
    *('directions', 'reverse', 'along_h', 'adds'),
]
"""Arguments on whose values no kernel is specialised: each would be compiled several times."""


@triton.jit
def lane_entry(lane, backwards, length, width, along_h):
    """The first token of a walk along a lane, and the distance to the next.

    Tokens are numbered row by row, image by image. Lanes are the rows of all images, or, if
    ``along_h``, their columns; ``length`` is the number of tokens in a lane.
    """
    column = (lane // width).to(tl.int64) * (length * width) + lane % width
    start = tl.where(along_h == 1, column, lane.to(tl.int64) * length)
    stride = tl.where(along_h == 1, width, 1)
    return start + backwards * (length - 1) * stride, tl.where(backwards == 1, -stride, stride)
