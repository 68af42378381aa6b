"""The beginning of a lane of a map and the distance of its tokens, which define a direction."""

import triton
import triton.language as tl

__all__ = ['RUNTIME', 'lane_entry', 'segment_entry']

RUNTIME = [
    *('lanes', 'lanes_per_program', 'length', 'width', 'tokens', 'maps'),
    *('directions', 'reverse', 'along_h', 'adds', 'segments', 'segment_steps'),
]
"""Arguments on whose values kernels are not specialised, to compile each kernel only once."""


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


@triton.jit
def segment_entry(lane, backwards, length, width, along_h, segments, segment_steps):
    """The first token of a walk along a segment, the distance to the next, and their number.

    Every lane is cut into ``segments`` of ``segment_steps`` tokens, the same for walks both ways.
    The last segment may be shorter. They are counted from the start of the map, lane by lane.
    """
    whole, step = lane_entry(lane // segments, 0, length, width, along_h)
    first = lane % segments * segment_steps
    steps = min(segment_steps, length - first)
    token = whole + (first + backwards * (steps - 1)).to(tl.int64) * step
    return token, tl.where(backwards == 1, -step, step), steps
