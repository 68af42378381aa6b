"""Operators that are launched again instead of run again; emulated where there is no GPU."""

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from cuda_emulation import DEVICE, ON_GPU, needs_a_device
from replays import Counted, draw
from scan_inputs import directions_of

from mmv2m.ops import mlp

pytest.importorskip('triton')
from mmv2m.ops.cuda import convs_backward, convs_forward, sum_rows  # noqa: E402
from mmv2m.ops.runtime import replay  # noqa: E402
from mmv2m.ops.runtime.replay import replayed  # noqa: E402
from mmv2m.ops.runtime.watch import rehearsing  # noqa: E402

pytestmark = needs_a_device


def gradients(tensors, directions):
    """Several launches, buffers between them, structures as arguments, and an output of None."""
    x, gate, weight, bias, grad_y = tensors
    directions = directions_of(*directions)
    y = convs_forward(x, gate, weight, bias, directions)
    grad_x, grad_gate, *partial = convs_backward(grad_y, x, gate, weight, bias, directions)
    return y, grad_x, grad_gate, *sum_rows(partial)


def check(run, *args):
    for result, expected in zip(run(*args), gradients(*args), strict=True):
        assert (result is None) == (expected is None)
        assert result is None or torch.equal(result, expected)


def test_other_tensors_of_the_same_layout():
    counted = Counted(gradients)
    run = replayed(counted)
    directions = ['right', 'up']
    for seed in range(4):
        check(run, draw(seed), directions)
    assert counted.calls == 2
    kept = run(draw(0), directions)
    check(run, draw(1), directions)
    torch.testing.assert_close(kept, gradients(draw(0), directions), rtol=0, atol=0)


def test_a_rehearsal_is_not_recorded():
    run, directions, rehearsed = replayed(gradients), ['right', 'up'], []
    with rehearsing(rehearsed.append):
        for seed in range(3):
            run(draw(seed), directions)
    assert rehearsed
    for seed in range(3):
        check(run, draw(seed), directions)


@pytest.mark.parametrize(
    'change', [dict(channels=12), dict(bias=False), dict(odd=True)], ids=lambda c: next(iter(c))
)
def test_another_layout_is_another_run(change):
    counted = Counted(gradients)
    run = replayed(counted)
    for _ in range(2):
        check(run, draw(0), ['left', 'up'])
        check(run, draw(0, **change), ['left', 'up'])
        check(run, draw(0), ['left', 'down'])
    assert counted.calls == 6
    check(run, draw(1, **change), ['left', 'up'])
    assert counted.calls == 6


@pytest.mark.parametrize(
    'function',
    [
        lambda tensors, directions: gradients(tensors, directions)[0] + 1,
        lambda tensors, directions: gradients(tensors, directions)[0][:1],
        lambda tensors, directions: tensors[0],
        lambda tensors, directions: gradients(tensors, directions)[:1] * 2,
    ],
    ids=['computes', 'part', 'input', 'twice'],
)
def test_what_cannot_be_repeated_runs_as_it_is(function):
    counted = Counted(function)
    run = replayed(counted)
    for seed in range(4):
        given = draw(seed), ['right', 'down']
        torch.testing.assert_close(run(*given), function(*given), rtol=0, atol=0)
    assert counted.calls == 4


def first_as_weight(x, y):
    """Convolve a map with the first rows of another."""
    return convs_forward(x, None, y[0, 0], None, directions_of('right'))


def test_one_tensor_given_twice():
    """It is replayed, but for other arguments that are one tensor too."""
    counted = Counted(first_as_weight)
    run = replayed(counted)
    for seed in range(4):
        square, other = draw_maps(2, 1, 4, 4, 4, seed=seed)
        for pair in ((square, square), (square, other)):
            assert torch.equal(run(*pair), first_as_weight(*pair))
    assert counted.calls == 4


def draw_maps(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def test_tensors_that_meet_while_they_are_recorded():
    """A kernel is given a part of one argument, at whose address another argument begins."""

    def second_map(maps, weight):
        return convs_forward(maps[1:], None, weight, None, directions_of('right'))

    counted = Counted(second_map)
    run = replayed(counted)
    for turn in range(4):
        maps = draw_maps(2, 4, 4, 4, 4, seed=turn)[0]
        weight = maps[1, 0] if turn == 1 else draw_maps(4, 4, seed=turn)
        assert torch.equal(run(maps, weight), second_map(maps, weight))


def test_a_part_of_an_argument():
    def second_map(maps, weight):
        return convs_forward(maps[1:], None, weight, None, directions_of('right'))

    counted = Counted(second_map)
    run = replayed(counted)
    for turn in range(4):
        maps, weight = draw_maps(2, 4, 4, 4, seed=turn), draw_maps(4, 4, seed=turn)
        assert torch.equal(run(maps, weight), second_map(maps, weight))
    assert counted.calls == 2


def test_layouts_used_last_are_remembered(monkeypatch):
    monkeypatch.setattr(replay, 'MOST_LAYOUTS', 2)
    counted = Counted(lambda x: torch.empty_like(x))
    run = replayed(counted)
    for size in range(1, 9):
        for _ in range(2):
            run(torch.empty(99))
            run(torch.empty(size))
    assert counted.calls == 2 + 2 * 8


class Yielding(int):
    """A number that gives way to other threads, at times, when it is looked up."""

    def __hash__(self):
        if random.random() < 0.1:
            time.sleep(0)
        return int(self)


def test_threads_that_forget_each_others_layouts(monkeypatch):
    monkeypatch.setattr(replay, 'MOST_LAYOUTS', 1)
    run = replayed(lambda x, number: torch.empty_like(x))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    start = Barrier(2)

    def call(thread):
        start.wait()
        for turn in range(1000):
            x = torch.empty(turn // 4, thread)
            assert run(x, Yielding(turn // 4)).shape == x.shape

    with ThreadPoolExecutor() as threads:
        try:
            list(threads.map(call, (2, 3)))
        finally:
            sys.setswitchinterval(before)


@pytest.mark.skipif(not ON_GPU, reason='no GPU')
def test_recording_keeps_nothing_in_the_pool_of_a_cuda_graph():
    """What torch.compile makes of mode='reduce-overhead' refuses tensors that outlive a run."""
    shapes = ((3, 7, 24), (40, 24), (40,), (16, 40), (16,))  # of no other test: recorded here
    given = [torch.randn(shape, device=DEVICE, requires_grad=True) for shape in shapes]

    def run(function):
        torch.compiler.cudagraph_mark_step_begin()
        y = function(*given, backend='cuda')
        return [t.clone() for t in (y, *torch.autograd.grad(y.sin().sum(), given))]

    compiled = torch.compile(mlp, mode='reduce-overhead')
    results = [run(compiled) for _ in range(5)]
    for found, expected in zip(results[-1], run(mlp), strict=True):
        torch.testing.assert_close(found, expected)
