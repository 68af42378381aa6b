"""Operators that are launched again instead of run again; emulated where there is no GPU."""

import ctypes
import logging
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import naive
import pytest
import torch
from cuda_emulation import DEVICE, ON_GPU, needs_a_device
from scan_inputs import directions_of, make_inputs, make_ssm_inputs
from torch.utils._python_dispatch import _disable_current_modes

from mmv2m.ops import (
    add_norm,
    channel_norm,
    directional_conv,
    directional_scan,
    directional_ssm,
    gated_linear,
    mlp,
)

pytest.importorskip('triton')
from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.cuda import convs_backward, convs_forward, sum_rows  # noqa: E402
from mmv2m.ops.gpu import corner_ssm, ssm  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.gpu.operators import Operators  # noqa: E402
from mmv2m.ops.runtime import replay  # noqa: E402
from mmv2m.ops.runtime.launch import Prepared  # noqa: E402
from mmv2m.ops.runtime.replay import replayed  # noqa: E402
from mmv2m.ops.runtime.watch import rehearsing  # noqa: E402

pytestmark = needs_a_device


class Interpreted(Prepared):
    """A launch of Triton's on its interpreter."""

    def __init__(self, kernel, grid, named):
        self.kernel, self.grid, self.named = kernel, grid, named
        tensors = {name: value for name, value in named.items() if torch.is_tensor(value)}
        self.addresses = {name: ctypes.c_void_p(t.data_ptr()) for name, t in tensors.items()}
        super().__init__(self.interpret, list(self.addresses.values()))

    def interpret(self, stream, pointers, extra):
        numbers = {
            name: torch.frombuffer(
                (ctypes.c_char * self.named[name].itemsize).from_address(pointer.value),
                dtype=self.named[name].dtype,
            )
            for name, pointer in self.addresses.items()
        }
        self.kernel[self.grid](**self.named | numbers)
        return 0


@pytest.fixture
def triton_launches(monkeypatch):
    """Without a GPU, Triton's launches can be told of and repeated too."""
    if ON_GPU:
        return
    from triton.runtime.interpreter import InterpretedFunction

    on_grid = InterpretedFunction.__getitem__

    def interpreted(kernel, grid):
        def run(*args, **options):
            with _disable_current_modes():  # what the interpreter does is not the operator's
                on_grid(kernel, grid)(*args, **options)
            return kernel

        return run

    monkeypatch.setattr(InterpretedFunction, '__getitem__', interpreted)
    monkeypatch.setattr('mmv2m.ops.triton.launch.prepare_triton', Interpreted)


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *args):
        self.calls += 1
        return self.function(*args)


def gradients(tensors, directions):
    """Several launches, buffers between them, structures as arguments, and an output of None."""
    x, gate, weight, bias, grad_y = tensors
    directions = directions_of(*directions)
    y = convs_forward(x, gate, weight, bias, directions)
    grad_x, grad_gate, *partial = convs_backward(grad_y, x, gate, weight, bias, directions)
    return y, grad_x, grad_gate, *sum_rows(partial)


def draw(seed, channels=8, bias=True, odd=False):
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        numbers = torch.randn(*size, generator=generator)
        storage = torch.empty(numbers.numel() + odd, device=DEVICE)
        return storage[int(odd) :].copy_(numbers.flatten()).view(size)

    x, gate = normal(1, 2, 3, 2 * channels).chunk(2, -1)
    weight = normal(channels, 4)
    return x, gate, weight, normal(channels) if bias else None, normal(2, 1, 2, 3, channels)


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


KERNELS = Kernels(cuda, triton)


def reference_gradients(grad_y, tensors, options):
    leaves = [None if t is None else t.double().requires_grad_() for t in tensors]
    *options, log_A = options
    y = directional_ssm(*leaves, *options, backend='reference', log_A=log_A)
    y.backward(grad_y.double())
    return y, *(None if leaf is None else leaf.grad for leaf in leaves)


@pytest.mark.parametrize(
    ('projects', 'maps', 'conv'),
    [('both', 0, False), ('both', 0, True), ('output', 2, False), ('input', 2, True)],
)
def test_ssm_of_long_lanes(projects, maps, conv, triton_launches, monkeypatch):
    """In segments, and with the logarithm of A, as VMamba has it: launches of both kinds alone."""
    monkeypatch.setattr('mmv2m.ops.cuda.scan_edges.LEAST_STEPS', 6)
    monkeypatch.setattr('mmv2m.ops.cuda.scan_edges.LEAST_SEGMENTS', 2)
    forward = Counted(partial(ssm.ssm_forward, KERNELS))
    backward = Counted(partial(ssm.ssm_backward, KERNELS))
    run, run_back = replayed(forward), replayed(backward)
    inputs = make_ssm_inputs((1, 1, 13), 6, states=3, maps=maps, projects=projects, conv=conv)
    inputs['A'] = (-inputs['A']).log()
    tensors = [None if t is None else t.to(DEVICE) for t in inputs.values()]
    ways = directions_of('left', 'right')[: maps or 1]
    options = (ways, projects, 'none' if maps else 'sum', True)
    generator = torch.Generator().manual_seed(2)
    for turn in range(3):
        tensors = [None if t is None else t * 0.9**turn for t in tensors]
        (y,) = run(tensors, *options)
        grad_y = torch.randn(y.shape, generator=generator).to(DEVICE)
        found = (y, *run_back(grad_y, tensors, *options))
        truth = reference_gradients(grad_y, tensors, options)
        for result, expected in zip(found, truth, strict=True):
            assert (result is None) == (expected is None)
            assert result is None or naive.relative_error(result, expected) < 1e-5
    assert (forward.calls, backward.calls) == (2, 2)


@pytest.mark.parametrize(
    'options',
    [('input', 'none'), ('output', 'sum', False, None, False, True)],
    ids=['maps', 'sum through the gate'],
)
def test_ssm_in_half_precision(options, monkeypatch):
    """Convolution and projection in one launch, whose arguments are structures of pointers."""
    monkeypatch.setattr('mmv2m.ops.cuda.conv_projection.WARPS', {8: 1})
    monkeypatch.setattr('mmv2m.ops.cuda.conv_projection.LEAST_UNITS', 0)
    plain = partial(ssm.ssm_forward, KERNELS)
    counted = Counted(plain)
    run = replayed(counted)
    inputs = make_ssm_inputs((1, 2, 5), 8, projects=options[0], dtype=torch.bfloat16)
    options = (directions_of('left', 'up'), *options)
    for turn in range(4):
        tensors = [t.to(DEVICE) * 0.9**turn for t in inputs.values()]
        assert torch.equal(*(ssm_forward(tensors, *options)[0] for ssm_forward in (run, plain)))
    assert counted.calls == 2


def test_ssm_that_keeps_and_adds(triton_launches):
    """As one of several groups runs: what is added to is no result, what is kept is one."""
    forward = Counted(partial(ssm.ssm_forward, KERNELS))
    backward = Counted(partial(ssm.ssm_backward, KERNELS))
    run, run_back = replayed(forward), replayed(backward)
    inputs = make_ssm_inputs((2, 3, 5), 16, states=1, dtype=torch.bfloat16)
    options = (directions_of('left', 'right'), 'input', 'sum', False)
    for turn in range(3):
        tensors = [t.to(DEVICE) * 0.9**turn for t in inputs.values()]
        y, grad_x, grad_gate = (torch.full_like(tensors[0], 0.5).contiguous() for _ in range(3))
        none, *kept = run(tensors, *options, y, True)
        grad_y = torch.ones_like(y)
        nones = run_back(grad_y, tensors, *options, kept, (grad_x, grad_gate, True))[:2]
        assert (none, *nones) == (None, None, None)
        truth = reference_gradients(grad_y, tensors, options)
        for result, expected in zip((y, grad_x, grad_gate), truth, strict=False):
            assert naive.relative_error(result, expected + 0.5) < (1e-2 if ON_GPU else 3e-2)
    assert (forward.calls, backward.calls) == (2, 2)


@pytest.mark.parametrize('gated', [True, False])
def test_both_halves_of_all_groups_are_one_run(gated, triton_launches):
    """Whose scratch buffers share their places, and come back in them while they are recorded."""
    functions = (corner_ssm.corner_ssm_forward, corner_ssm.corner_ssm_backward)
    plain = [partial(function, KERNELS) for function in functions]
    counted = [Counted(function) for function in plain]
    run = [replayed(function) for function in counted]
    options = ('right-down,left-up;up-left', 'sum', False)
    halves = [make_ssm_inputs((1, 2, 5), 8, states=1, projects=p) for p in ('input', 'output') * 2]
    for turn in range(3):
        x, gate = (halves[0][name].to(DEVICE) * 0.9**turn for name in ('x', 'gate'))
        gate = gate if gated else None
        parameters = [
            t.to(DEVICE) + 0.1 * i for i, h in enumerate(halves) for t in [*h.values()][2:]
        ]
        results = []
        for forward, backward in (plain, run):
            y, *kept = forward(x, gate, parameters, *options, True)
            grads = backward(y.cos(), kept, x, gate, parameters, *options, (None, None))
            results.append((y, *kept, *grads, *forward(x, gate, parameters, *options, False)))
        for found, expected in zip(*results, strict=True):
            assert (found is None) == (expected is None)
            assert found is None or torch.equal(found, expected)
    assert [function.calls for function in counted] == [4, 2]  # for training and not, and back


def test_gradients_of_ssm_in_half_precision(triton_launches):
    """What comes through the projection is the convolution's backward pass's to add."""
    counted = Counted(partial(ssm.ssm_backward, KERNELS))
    run = replayed(counted)
    inputs = make_ssm_inputs((1, 3, 5), 40, dtype=torch.bfloat16, maps=2, projects='output')
    options = (directions_of('left', 'right'), 'output', 'sum', False)
    for turn in range(3):
        tensors = [t.to(DEVICE) * 0.9**turn for t in inputs.values()]
        grad_y = torch.ones_like(tensors[0][0])
        found = run(grad_y, tensors, *options)
        _, *truth = reference_gradients(grad_y, tensors, options)
        for result, expected in zip(found, truth, strict=True):
            assert naive.relative_error(result, expected) < (1e-2 if ON_GPU else 3e-2)
    assert counted.calls == 2


@pytest.mark.parametrize('maps', [0, 2])
def test_convolutions_of_several_directions(maps):
    kernels, counted = Kernels(cuda, triton), []

    def prepare(function, gradients=None):
        counted.append(Counted(function))
        return replayed(counted[-1])

    plain, again = Operators(kernels), Operators(kernels, prepare)
    for seed in range(4):
        x, _, weight, bias, grad_y = draw(seed)
        x = torch.stack([x + k for k in range(maps)]) if maps else x
        conv = (x, weight, bias, 'left,down')
        assert torch.equal(again.convs_forward(*conv), plain.convs_forward(*conv))
        pair = (operators.convs_backward(grad_y, *conv) for operators in (again, plain))
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))
    assert [one.calls for one in counted if one.calls] == [2, 2]


@pytest.mark.skipif(not ON_GPU, reason='no GPU')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_all_operators_are_replayed(dtype, caplog):
    def leaves(tensors):
        return {
            name: value.to(DEVICE).requires_grad_() if torch.is_tensor(value) else value
            for name, value in tensors.items()
        }

    convolve_all = partial(directional_conv, direction=('right', 'left', 'up'))
    x, z = torch.randn(2, 1, 2, 3, 8).to(dtype)
    weight, norm_weight = torch.randn(4, 8), torch.ones(8)
    out = dict(out_weight=weight.t().contiguous(), out_bias=weight[0])
    norms = {name: norm_weight.clone() for name in ('weight', 'bias', 'offset')}
    sequence = make_ssm_inputs((1, 1, 3136), projects='both', dtype=dtype, conv=False)
    sequence.update(A=(-sequence['A']).log(), x=sequence['x'].contiguous())
    calls = [
        (directional_ssm, leaves(make_ssm_inputs(dtype=dtype))),
        (directional_ssm, leaves(make_ssm_inputs(channels=8, dtype=dtype))),
        (directional_ssm, dict(leaves(sequence), projects='both', log_A=True)),
        (directional_scan, leaves(make_inputs((1, 2, 3, 8), 4, dtype))),
        (directional_conv, leaves(dict(x=x, weight=torch.randn(8, 4), bias=None))),
        (convolve_all, leaves(dict(x=x, weight=torch.randn(8, 4), bias=weight[0]))),
        (gated_linear, leaves(dict(x=x, z=z, weight=weight))),
        (mlp, leaves(dict(x=x, weight=weight, bias=weight[:, 0]) | out)),
        (channel_norm, leaves(norms | dict(x=x))),
        (add_norm, leaves(dict(branch=x, residual=z.float(), weight=norm_weight))),
    ]
    with caplog.at_level(logging.DEBUG, 'mmv2m'):
        for function, arguments in calls:
            for _ in range(3):
                y = function(**arguments, backend='cuda')
                outputs = y if isinstance(y, tuple) else (y,)
                torch.autograd.backward(outputs, [torch.randn_like(t) for t in outputs])
    assert not [record for record in caplog.messages if 'is not replayed' in record]


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
