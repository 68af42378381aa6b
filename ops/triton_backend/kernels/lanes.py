"""Where a lane of a map begins and how far its tokens are apart: all that a direction is."""

import triton
import triton.language as tl

__all__ = ['lane_entry']


@triton.jit
def lane_entry(lane, backwards, length, width, ALONG_H: tl.constexpr):
    """The first token of a walk along a lane, and the distance to the next.

    Tokens are numbered row by row, image by image. Lanes are the rows of all images, or, if
    ALONG_H, their columns; ``length`` is the number of tokens in a lane.
    """
    if ALONG_H:
        start = (lane // width).to(tl.int64) * (length * width) + lane % width
        stride = width
    else:
        start = lane.to(tl.int64) * length
        stride = 1
    return start + backwards * (length - 1) * stride, tl.where(backwards == 1, -stride, stride)
