"""Convolution and projection in one kernel of CUDA C++; emulated where there is no GPU."""

import pytest
import torch
import torch.nn.functional as F
from cuda_emulation import (
    DEVICE,
    ON_GPU,
    launches,
    launches_of_cuda,
    needs_a_device,
    nothing_launched,
)
from scan_inputs import directions_of, with_gaps
from torch.testing import assert_close

from mmv2m.ops.reference import directional_conv_reference
from mmv2m.ops.runtime.compile import compile_kernel

pytest.importorskip('triton')
from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.cuda import conv_projection, projection  # noqa: E402
from mmv2m.ops.cuda.conv import convs_forward  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.runtime.hardware import EMULATED  # noqa: E402

CORNERS = ['right', 'left', 'down', 'up']
HALF_A_STEP = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
"""How far rounding may move a number, relative to it."""


@pytest.fixture(autouse=True)
def small_maps(monkeypatch):
    """Are served too; and emulated threads are slow, and most would have no tokens."""
    monkeypatch.setattr(conv_projection, 'LEAST_UNITS', 0)
    if not ON_GPU:
        monkeypatch.setattr(conv_projection, 'WARPS', {12: 2})
        monkeypatch.setattr(projection, 'WARPS', {12: 2})


def make_inputs(
    grid,
    channels,
    gated=True,
    maps=0,
    dtype=torch.bfloat16,
    taps=4,
    bias=True,
    rank=12,
    states=16,
    sides=1,
):
    """A gate and, where it serves all directions, x as halves of a wider map."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    x, gate = normal(*grid, 2 * channels).to(dtype).to(DEVICE).chunk(2, -1)
    if maps:
        x = normal(maps, *grid, channels).to(dtype)
    parameters = [
        normal(channels, taps) / 2,
        normal(channels) if bias else None,
        normal(rank + sides * states, channels) / channels**0.5,
        normal(channels, rank) / rank**0.5,
        6 * normal(channels),
    ]
    given = [x, gate if gated else None, *parameters]
    return [None if t is None else t.to(DEVICE) for t in given]


def run(inputs, directions, states=16):
    """By the kernel, which has to be launched."""
    conv, projects = inputs[:4], inputs[4:]
    ways = directions_of(*directions)
    with launches() as calls:
        result = conv_projection.convs_project(*conv, ways, *projects, states)
    assert [call.source for call in calls] == ['conv_projection.cu']
    return result


def compare(inputs, directions, states=16):
    """With the kernels that it stands for, to the bit, and with float64, step by step."""
    y, projected = run(inputs, directions, states)
    assert torch.equal(y, convs_forward(*inputs[:4], directions_of(*directions)))
    low_rank, delta, sides = projection.project(y, *inputs[4:], states)
    assert torch.equal(projected.low_rank, low_rank)
    assert torch.equal(projected.delta, delta)
    assert len(projected.sides) == len(sides)
    assert all(torch.equal(a, b) for a, b in zip(projected.sides, sides, strict=True))
    compare_with_float64(inputs, directions, y, projected)


def compare_with_float64(inputs, directions, y, projected):
    dtype, half_a_step = y.dtype, HALF_A_STEP[y.dtype]
    x, gate, weight, bias, x_proj, dt_proj, dt_bias = (
        None if t is None else t.cpu().double() for t in inputs
    )
    opened = x if gate is None else x * F.silu(gate)
    truth = [
        directional_conv_reference(opened[k] if x.dim() == 5 else opened, weight, bias, direction)
        for k, direction in enumerate(directions)
    ]
    y = y.cpu().double()
    assert_close(y, torch.stack(truth), rtol=1.01 * half_a_step, atol=1e-5)
    tokens = y @ x_proj.to(dtype).double().T
    rank = dt_proj.shape[1]
    found = torch.cat([projected.low_rank.cpu().double(), *(s.cpu() for s in projected.sides)], -1)
    low_rank, sides = tokens[..., :rank], tokens[..., rank:]
    assert_close(found[..., :rank], low_rank, rtol=half_a_step, atol=1e-5)
    assert_close(found[..., rank:], sides, rtol=1e-5, atol=1e-5)
    raw = found[..., :rank] @ dt_proj.to(dtype).double().T + dt_bias
    tiny = 2**-25 if dtype == torch.float16 else 0
    delta = projected.delta.cpu().double()
    assert_close(delta, F.softplus(raw), rtol=1.01 * half_a_step, atol=tiny)


@needs_a_device
@pytest.mark.parametrize('dtype', HALF_A_STEP)
@pytest.mark.parametrize('channels', [8, 40, 96, 384])
def test_channels(channels, dtype):
    compare(make_inputs((2, 3, 7), channels, dtype=dtype), ['left', 'down'])


@needs_a_device
@pytest.mark.parametrize('gated', [False, True])
@pytest.mark.parametrize('maps', [0, 4])
@pytest.mark.parametrize('bias', [False, True])
def test_kinds_of_input(gated, maps, bias):
    compare(make_inputs((1, 3, 6), 40, gated, maps, bias=bias), CORNERS)


@needs_a_device
@pytest.mark.parametrize('gated', [False, True])
@pytest.mark.parametrize('length', [1, 2, 3, 5, 14, 15, 17, 37])
def test_lanes_of_any_lengths(length, gated):
    """Other ones in other directions; some longer than what a warp works on together."""
    compare(make_inputs((1, 2, length), 8, gated), ['right', 'up', 'left'])
    compare(make_inputs((1, length, 3), 8, gated), ['down', 'up'])


@needs_a_device
@pytest.mark.parametrize('taps', [2, 3, 5])
def test_taps(taps):
    compare(make_inputs((1, 2, 11), 32, taps=taps), ['right', 'up'])


@needs_a_device
@pytest.mark.parametrize('tokens_held', [2, 6])
def test_tokens_held(tokens_held, monkeypatch):
    monkeypatch.setattr(conv_projection, 'TOKENS_HELD', tokens_held)
    compare(make_inputs((1, 2, 13), 32, taps=3), ['right', 'up'])


@needs_a_device
@pytest.mark.parametrize('at_once', [2, 4])
@pytest.mark.parametrize('ahead', [1, 2])
def test_settings(at_once, ahead, monkeypatch):
    monkeypatch.setattr(conv_projection, 'CHANNELS_AT_ONCE', {True: at_once})
    monkeypatch.setattr(conv_projection, 'AHEAD', ahead)
    compare(make_inputs((1, 3, 9), 96), ['left', 'down'])


@needs_a_device
@pytest.mark.parametrize(
    ('rank', 'states', 'sides'), [(1, 1, 1), (3, 1, 2), (12, 3, 2), (24, 16, 2), (96, 16, 1)]
)
def test_ranks_and_states(rank, states, sides):
    gated = states * sides == 1  # without a gate, another kernel has these
    inputs = make_inputs((1, 3, 5), 72, gated, rank=rank, states=states, sides=sides)
    compare(inputs, ['right', 'left'], states)


@needs_a_device
@pytest.mark.parametrize('grid', [(1, 1, 1), (3, 14, 14)])
def test_warps_take_several_segments(grid, monkeypatch):
    """168 segments of each sense on three blocks of two warps, which take eight at a time."""
    monkeypatch.setattr(conv_projection, 'multiprocessors', lambda device: 3)
    compare(make_inputs(grid, 32, maps=2), ['up', 'down'])


@needs_a_device
@pytest.mark.parametrize('gated', [False, True])
def test_what_is_not_a_number_stays_where_the_taps_reach(gated):
    inputs = make_inputs((1, 2, 21), 40, gated)
    inputs[0][0, 1, 5, 7] = float('nan')
    y, projected = run(inputs, ['right', 'left'])
    for t in (y[..., 7:8], projected.low_rank, projected.delta, *projected.sides):
        reached = torch.zeros(t.shape[:-1], dtype=torch.bool, device=DEVICE)
        reached[0, 0, 1, 5:9] = reached[1, 0, 1, 2:6] = True
        assert torch.equal(t.isnan().any(-1), reached)
        assert torch.equal(t.isnan().all(-1), reached)


@needs_a_device
def test_parameters_with_gaps():
    x, gate, *parameters = make_inputs((1, 3, 6), 32)
    y, projected = run([x, gate, *parameters], CORNERS)
    found_y, found = run([x, gate, *map(with_gaps, parameters)], CORNERS)
    assert torch.equal(found_y, y)
    assert torch.equal(found.delta, projected.delta)


def test_no_tokens():
    inputs = make_inputs((0, 3, 2), 32)
    with nothing_launched():
        y, projected = conv_projection.convs_project(
            *inputs[:4], directions_of(*CORNERS), *inputs[4:], 16
        )
    assert y.shape == projected.delta.shape == (4, 0, 3, 2, 32)
    assert projected.low_rank.shape == (4, 0, 3, 2, 12)
    assert [side.shape for side in projected.sides] == [(4, 0, 3, 2, 16)]


def at_odd_address(t):
    storage = torch.empty(t.numel() + 1, dtype=t.dtype, device=t.device)
    return storage[1:].copy_(t.flatten()).view_as(t)


def changed(number, change):
    def apply(inputs):
        inputs[number] = change(inputs[number])

    return apply


@pytest.fixture
def steps(monkeypatch):
    """Arguments of separate kernels, which are not launched."""
    steps = []

    def convs_forward(*args):
        steps.append(args)
        return 'convolved'

    def project(*args):
        steps.append(args)
        return 'projected'

    monkeypatch.setattr(cuda, 'convs_forward', convs_forward)
    monkeypatch.setattr(cuda, 'project', project)
    return steps


def is_separate(steps, inputs, states=16):
    up = directions_of('up')
    with nothing_launched():
        result = Kernels(cuda, triton).convs_project(*inputs[:4], up, *inputs[4:], states)
    expected = [(*inputs[:4], up), ('convolved', *inputs[4:], states)]
    return result == ('convolved', 'projected') and steps == expected


@pytest.mark.parametrize(
    ('settings', 'change'),
    [
        (dict(dtype=torch.float32), None),
        (dict(), changed(0, at_odd_address)),
        (dict(), changed(1, at_odd_address)),
        (dict(), changed(4, at_odd_address)),
        (dict(channels=36), None),
        (dict(taps=1), None),
        (dict(taps=6), None),
        (dict(channels=1408, rank=24), None),
        (dict(states=200), None),
        (dict(states=1, gated=False), None),
    ],
    ids=[
        *('float32', 'odd x', 'odd gate', 'odd weight', 'channels', 'one tap', 'taps', 'memory'),
        *('states', 'single states'),
    ],
)
def test_what_separate_kernels_serve(settings, change, steps, monkeypatch):
    """Of 1408 channels the projection alone has shared memory enough."""
    monkeypatch.setattr(projection, 'hardware_of', lambda device: EMULATED)
    inputs = make_inputs((1, 2, 3), **dict(channels=32) | settings)
    if change:
        change(inputs)
    assert is_separate(steps, inputs, settings.get('states', 16))


def test_separate_kernels_serve_what_does_not_fill_the_gpu(steps, monkeypatch):
    monkeypatch.setattr(conv_projection, 'LEAST_UNITS', 2)
    monkeypatch.setattr(conv_projection, 'multiprocessors', lambda device: 3)
    tokens_held = conv_projection.TOKENS_HELD * conv_projection.SEGMENTS
    assert is_separate(steps, make_inputs((1, 5, tokens_held), 32))
    enough, up = make_inputs((1, 6, tokens_held), 32), directions_of('up')
    calls = launches_of_cuda(Kernels(cuda, triton).convs_project, *enough[:4], up, *enough[4:], 16)
    assert len(calls) == 1


@pytest.mark.parametrize('dtype', HALF_A_STEP)
@pytest.mark.parametrize('gated', [False, True])
def test_compiles(dtype, gated, tmp_path, monkeypatch):
    pytest.importorskip('cuda.bindings')
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(tmp_path))
    inputs = make_inputs((1, 2, 3), 96, gated, dtype=dtype)
    conv, projects, up = inputs[:4], inputs[4:], directions_of('up')
    calls = launches_of_cuda(conv_projection.convs_project, *conv, up, *projects, 16)
    for architecture in ('sm_80', 'sm_90'):
        cubin = compile_kernel(calls[0].source, calls[0].definitions, architecture)
        assert cubin[:4] == b'\x7fELF'
