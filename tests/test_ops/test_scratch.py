"""Buffers that share an allocation."""

import random

import pytest

pytest.importorskip('triton')
from mmv2m.ops.runtime.scratch import ALIGNMENT, Buffer, lay_out  # noqa: E402


def draw_buffers(seed):
    generator = random.Random(seed)
    buffers = []
    for _ in range(generator.randrange(1, 30)):
        first = generator.randrange(20)
        last = first + generator.randrange(6)
        buffers.append(Buffer(generator.randrange(20 * ALIGNMENT), first, last))
    return buffers


def aligned(size):
    return -(-size // ALIGNMENT) * ALIGNMENT


@pytest.mark.parametrize('seed', range(20))
def test_no_two_are_in_one_place_at_a_time(seed):
    buffers = draw_buffers(seed)
    starts, size = lay_out(buffers)
    for launch in range(30):
        places = sorted(
            (start, start + buffer.size)
            for start, buffer in zip(starts, buffers, strict=True)
            if buffer.first <= launch <= buffer.last
        )
        assert all(a[1] <= b[0] for a, b in zip(places, places[1:], strict=False))
        assert all(end <= size for _, end in places)
    assert all(start % ALIGNMENT == 0 for start in starts)
    # Better than one after the other, wherever two are never needed together.
    assert size <= sum(aligned(b.size) for b in buffers)


def test_places_are_used_again():
    big = 10 * ALIGNMENT
    steps = [Buffer(big, n, n + 1) for n in range(6)]
    assert lay_out(steps)[1] == 2 * big
    starts, size = lay_out([Buffer(big, 0, 5), Buffer(1, 0, 1), Buffer(1, 2, 3)])
    assert (starts, size) == ([0, big, big], big + ALIGNMENT)


def test_nothing():
    assert lay_out([]) == ([], 0)
