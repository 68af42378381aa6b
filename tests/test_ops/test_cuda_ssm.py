"""Convolution, projections and scan in one kernel of CUDA C++; emulated where there is no GPU."""

import pytest
import torch
from cuda_emulation import (
    DEVICE,
    ON_GPU,
    launches,
    launches_of_cuda,
    needs_a_device,
    nothing_launched,
)
from naive import relative_error
from scan_inputs import directions_of, with_gaps
from torch.testing import assert_close

from mmv2m.ops import directional_ssm
from mmv2m.ops.ssm_tensors import SSMTensors

pytest.importorskip('triton')
from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.cuda import conv_projection, projection, ssm_forward  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.gpu.ssm import ssm_forward as by_kernels  # noqa: E402

TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.fixture(autouse=True)
def small_maps(monkeypatch):
    """Are served too; and emulated threads are slow, and most would have no tokens."""
    monkeypatch.setattr(ssm_forward, 'LONG', 1000)
    if not ON_GPU:
        monkeypatch.setattr(ssm_forward, 'THREADS', 64)
        monkeypatch.setattr(conv_projection, 'WARPS', {12: 2})
        monkeypatch.setattr(projection, 'WARPS', {12: 2})


def make_tensors(grid, channels, rank=6, maps=0, dtype=torch.bfloat16, taps=4, bias=True, D=True):
    """Those of a single state; a map that serves all directions is half of a wider one."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    wide = normal(*grid, 2 * channels)
    x = normal(maps, *grid, channels) if maps else wide.chunk(2, -1)[0]
    x = x.to(dtype).to(DEVICE) if maps else wide.to(dtype).to(DEVICE).chunk(2, -1)[0]
    parameters = (
        normal(channels, 1, taps) / 2,
        normal(channels) if bias else None,
        normal(rank + 1, channels) / channels**0.5,
        normal(channels, rank) / rank**0.5,
        normal(channels) - 2,
        normal(channels, 1) / 4,
        normal(channels) if D else None,
    )
    return SSMTensors(x, None, *(None if p is None else p.to(DEVICE) for p in parameters))


def walk(given, directions, projects, reduction='none', add_to=None, keeps=True):
    """By the kernel, which has to be launched, once for each axis."""
    ways = directions_of(*directions)
    with launches() as calls:
        result = ssm_forward.ssm_at_once(given, ways, projects, reduction, True, add_to, keeps)
    assert [call.source for call in calls] == ['ssm_forward.cu'] * len({w.axis for w in ways})
    return result


def exact(given, directions, projects, reduction):
    """The reference in float64."""
    *tensors, A, D = (None if t is None else t.double() for t in given)
    D = given.dt_bias.new_zeros(given.dt_bias.shape, dtype=torch.double) if D is None else D
    options = dict(projects=projects, reduction=reduction, backend='reference')
    return directional_ssm(*tensors, -A.exp(), D, directions, **options)


def compare(given, directions, projects, reduction='none'):
    """With float64, and with the kernels that it stands for."""
    y, low_rank, side = walk(given, directions, projects, reduction)
    assert relative_error(y, exact(given, directions, projects, reduction)) < TOLERANCE[y.dtype]
    ways = directions_of(*directions)
    apart = Kernels(cuda, triton) if ON_GPU else Kernels(cuda)
    apart.ssm_at_once = lambda *args: NotImplemented
    args = (apart, given, ways, projects, reduction, True)
    other, other_low_rank, other_side = by_kernels(*args, keeps=True)
    half_a_step = torch.finfo(y.dtype).eps / 2
    assert_close(low_rank, other_low_rank, rtol=2 * half_a_step, atol=1e-2 * half_a_step)
    assert_close(side, other_side, rtol=1e-5, atol=1e-5)
    assert relative_error(y, other.double()) < half_a_step


@needs_a_device
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('projects', ['input', 'output'])
@pytest.mark.parametrize('channels', [32, 96])
def test_channels(channels, projects, dtype):
    compare(make_tensors((2, 3, 7), channels, dtype=dtype), ['right', 'left'], projects)
    compare(make_tensors((1, 5, 2), channels, dtype=dtype, maps=2), ['down', 'up'], projects, 'sum')


@needs_a_device
@pytest.mark.parametrize(
    ('maps', 'bias', 'D'), [(0, False, True), (2, True, False), (2, False, False)]
)
def test_kinds_of_input(maps, bias, D):
    given = make_tensors((1, 3, 6), 32, maps=maps, bias=bias, D=D)
    compare(given, ['left', 'right'], 'input')
    compare(given, ['up', 'down'], 'output', 'sum')


@needs_a_device
def test_parameters_with_gaps():
    given = make_tensors((1, 3, 6), 32)
    names = ('conv_bias', 'x_proj', 'dt_proj', 'dt_bias', 'A', 'D')
    apart = given._replace(**{name: with_gaps(getattr(given, name)) for name in names})
    results = [walk(tensors, ['left', 'right'], 'input') for tensors in (given, apart)]
    assert all(map(torch.equal, *results))


@needs_a_device
@pytest.mark.parametrize('length', [1, 4, 15, 17, 37])
def test_lanes_of_any_lengths(length):
    compare(make_tensors((1, 2, length), 32), ['right', 'left'], 'input')
    compare(make_tensors((1, length, 3), 32, maps=2), ['down', 'up'], 'output', 'sum')


@needs_a_device
@pytest.mark.parametrize('rank', [1, 7, 15, 24])
def test_ranks(rank):
    compare(make_tensors((1, 3, 5), 64, rank=rank), ['right', 'left'], 'input')


@needs_a_device
@pytest.mark.parametrize('taps', [2, 3, 5])
def test_taps(taps):
    compare(make_tensors((1, 2, 21), 32, taps=taps), ['right', 'left'], 'output')


@needs_a_device
@pytest.mark.parametrize('projects', ['input', 'output'])
def test_directions_along_both_axes(projects):
    """Two launches, of which the second adds to the first one's sums."""
    given = make_tensors((2, 3, 5), 32, maps=4)
    compare(given, ['down', 'left', 'up', 'right'], projects)
    compare(given, ['down', 'left', 'up', 'right'], projects, 'sum')


@needs_a_device
def test_sums_are_added_to_what_is_there():
    given = make_tensors((2, 3, 5), 32, maps=2)
    before = torch.randn(given.x.shape[1:]).to(given.x)
    target = before.clone()
    y, *_ = walk(given, ['right', 'left'], 'output', 'sum', target)
    assert y is target
    truth = exact(given, ['right', 'left'], 'output', 'sum') + before.double()
    assert relative_error(y, truth) < TOLERANCE[y.dtype]


@needs_a_device
def test_nothing_is_kept_if_not_asked_for():
    given = make_tensors((2, 3, 5), 32)
    y, low_rank, side = walk(given, ['right', 'left'], 'input', keeps=False)
    assert torch.equal(y, walk(given, ['right', 'left'], 'input')[0])
    assert low_rank.numel() == side.numel() == 0


@needs_a_device
@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_blocks_take_several_units(reduction, monkeypatch):
    """Of two or four lanes each, the last of which has less."""
    monkeypatch.setattr(ssm_forward, 'multiprocessors', lambda device: 1)
    monkeypatch.setattr(ssm_forward, 'BLOCKS', {False: 2, True: 2})
    compare(make_tensors((3, 9, 2), 32, maps=2), ['right', 'left'], 'input', reduction)


@needs_a_device
@pytest.mark.parametrize('projects', ['input', 'output'])
def test_what_is_not_a_number_stays_where_lanes_lead(projects):
    given = make_tensors((2, 3, 21), 32)
    given.x[0, 1, 5, 7] = float('nan')
    y, *_ = walk(given, ['right', 'left'], projects)
    reached = torch.zeros(y.shape[:-1], dtype=torch.bool, device=DEVICE)
    reached[0, 0, 1, 5:] = reached[1, 0, 1, :6] = True
    assert torch.equal(y.isnan().any(-1), reached)


def test_no_tokens():
    given = make_tensors((0, 3, 2), 32)
    with nothing_launched():
        y, low_rank, side = ssm_forward.ssm_at_once(
            given, directions_of('right'), 'input', 'none', True, None, True
        )
    assert y.shape == (1, 0, 3, 2, 32)
    assert low_rank.shape == (1, 0, 3, 2, 6)
    assert side.shape == (1, 0, 3, 2, 1)


def gated(given):
    return given._replace(gate=given.x)


def with_two_states(given):
    return given._replace(A=given.A.repeat(1, 2), x_proj=given.x_proj[[*range(7), 6]])


def in_float32(given):
    return given._replace(x=given.x.float())


def without_conv(given):
    return given._replace(conv_weight=None, conv_bias=None)


def of_24_channels(given):
    return make_tensors((1, 2, 3), 24)


def with_biases_at_an_odd_address(given):
    memory = torch.empty(given.dt_bias.numel() + 1, device=given.dt_bias.device)
    return given._replace(dt_bias=memory[1:].copy_(given.dt_bias))


@pytest.mark.parametrize(
    'change',
    [
        *(gated, with_two_states, in_float32, without_conv, of_24_channels),
        with_biases_at_an_odd_address,
    ],
)
def test_what_it_does_not_take(change):
    given = change(make_tensors((1, 2, 3), 32))
    with nothing_launched():
        result = ssm_forward.ssm_at_once(
            given, directions_of('right'), 'input', 'none', True, None, True
        )
    assert result is NotImplemented


def test_few_long_lanes_are_left_to_kernels_that_cut_them(monkeypatch):
    monkeypatch.setattr(ssm_forward, 'LONG', 4)
    monkeypatch.setattr(ssm_forward, 'THREADS', 64)  # four lanes to a block
    monkeypatch.setattr(ssm_forward, 'multiprocessors', lambda device: 3)
    args = (directions_of('right'), 'input', 'none', True, None, True)
    with nothing_launched():
        few = ssm_forward.ssm_at_once(make_tensors((1, 2, 5), 32), *args)
    assert few is NotImplemented
    for grid in ((6, 2, 5), (1, 2, 4)):
        assert launches_of_cuda(ssm_forward.ssm_at_once, make_tensors(grid, 32), *args)
