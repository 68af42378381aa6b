"""The projection in CUDA C++ against float64; emulated where there is no GPU."""

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
from scan_inputs import with_gaps
from torch.testing import assert_close

from mmv2m.ops.runtime.compile import compile_kernel

pytest.importorskip('triton')
from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.cuda import projection  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.runtime.hardware import EMULATED  # noqa: E402

HALF_A_STEP = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
"""How far rounding may move a number, relative to it."""


@pytest.fixture(autouse=True)
def few_warps(monkeypatch):
    """Emulated threads are slow, and most would have no tokens."""
    if not ON_GPU:
        monkeypatch.setattr(projection, 'WARPS', {12: 2})


def make_inputs(tokens, channels, rank, states, sides, dtype):
    """Biases whose time steps are from far below one to far above."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    weight = normal(rank + sides * states, channels) / channels**0.5
    dt_weight, dt_bias = normal(channels, rank) / rank**0.5, 6 * normal(channels)
    given = (normal(*tokens, channels).to(dtype), weight, dt_weight, dt_bias)
    return [t.to(DEVICE) for t in given]


def project(inputs, states):
    """By the kernel, which has to be launched."""
    with launches() as calls:
        result = projection.project(*inputs, states)
    assert len(calls) == 1
    return result


def compare(inputs, rank, states, sides):
    """Each stage against the exact one of what the kernel has rounded before it."""
    x, weight, dt_weight, dt_bias = (t.cpu() for t in inputs)
    dtype, half_a_step = x.dtype, HALF_A_STEP[x.dtype]
    result = project(inputs, states)
    low_rank, delta = result.low_rank.cpu(), result.delta.cpu()
    assert low_rank.dtype == delta.dtype == dtype
    truth = x.double() @ weight.to(dtype).double().T
    assert_close(low_rank.double(), truth[..., :rank], rtol=half_a_step, atol=1e-5)
    assert len(result.sides) == sides
    for side, expected in zip(result.sides, truth[..., rank:].chunk(sides, -1), strict=True):
        assert_close(side.cpu(), expected.float(), rtol=1e-5, atol=1e-5)
    raw = low_rank.double() @ dt_weight.to(dtype).double().T + dt_bias.double()
    tiny = 2**-25 if dtype == torch.float16 else 0
    assert_close(delta.double(), F.softplus(raw), rtol=1.01 * half_a_step, atol=tiny)
    return result


@needs_a_device
@pytest.mark.parametrize('dtype', HALF_A_STEP)
@pytest.mark.parametrize('channels', [32, 40, 96, 384])
def test_channels(channels, dtype):
    compare(make_inputs((2, 3, 7), channels, 12, 16, 1, dtype), 12, 16, 1)


@needs_a_device
@pytest.mark.parametrize('dtype', HALF_A_STEP)
@pytest.mark.parametrize(
    ('rank', 'states', 'sides'),
    [(1, 1, 1), (3, 1, 2), (12, 3, 2), (24, 16, 2), (40, 32, 1), (5, 32, 2), (96, 16, 1)],
)
def test_ranks_and_states(rank, states, sides, dtype):
    result = compare(make_inputs((19,), 72, rank, states, sides, dtype), rank, states, sides)
    padded = result.sides[0].stride(-2) // sides
    whole = result.sides[0].as_strided((19, sides, padded), (sides * padded, padded, 1))
    assert not whole[..., states:].any()


@needs_a_device
@pytest.mark.parametrize('tokens', [1, 16, 119])
def test_warps_take_several_tiles(tokens, monkeypatch):
    """Eight tiles on two blocks of three warps."""
    monkeypatch.setattr(projection, 'WARPS', {12: 3})
    monkeypatch.setattr(projection, 'multiprocessors', lambda device: 2)
    compare(make_inputs((tokens,), 160, 12, 16, 1, torch.bfloat16), 12, 16, 1)


@needs_a_device
def test_what_is_not_a_number_stays_with_its_token():
    inputs = make_inputs((21,), 40, 12, 16, 1, torch.bfloat16)
    inputs[0][5, 7] = float('nan')
    result = project(inputs, 16)
    for t in (result.low_rank, result.delta, *result.sides):
        assert t[5].isnan().all()
        assert not torch.cat((t[:5], t[6:])).isnan().any()


@needs_a_device
def test_parameters_with_gaps():
    x, *parameters = make_inputs((7,), 32, 6, 4, 1, torch.bfloat16)
    expected, found = project([x, *parameters], 4), project([x, *map(with_gaps, parameters)], 4)
    assert torch.equal(found.delta, expected.delta)


def test_no_tokens():
    inputs = make_inputs((0, 3), 32, 2, 4, 2, torch.bfloat16)
    with nothing_launched():
        low_rank, delta, sides = projection.project(*inputs, 4)
    assert low_rank.shape == (0, 3, 2) and delta.shape == (0, 3, 32)
    assert [side.shape for side in sides] == [(0, 3, 4)] * 2


def at_odd_address(t):
    storage = torch.empty(t.numel() + 1, dtype=t.dtype, device=t.device)
    return storage[1:].copy_(t.flatten()).view_as(t)


@pytest.mark.parametrize(
    ('channels', 'states', 'change'),
    [
        (32, 4, lambda x, *others: (x.float(), *others)),
        (32, 4, lambda x, *others: (at_odd_address(x), *others)),
        (32, 4, lambda x, weight, *others: (x, at_odd_address(weight), *others)),
        (32, 4, lambda *given: (*given[:3], given[3].bfloat16())),
        (36, 4, lambda *given: given),
        (2048, 16, lambda *given: given),
        (32, 200, lambda *given: given),
    ],
    ids=['float32', 'odd x', 'odd weight', 'bfloat16 bias', 'channels', 'memory', 'states'],
)
def test_what_triton_serves(channels, states, change, monkeypatch):
    given = []
    monkeypatch.setattr(triton, 'project', lambda *args: given.extend(args))
    monkeypatch.setattr(projection, 'hardware_of', lambda device: EMULATED)
    inputs = change(*make_inputs((3,), channels, 24, states, 1, torch.bfloat16))
    with nothing_launched():
        assert Kernels(cuda, triton).project(*inputs, states) is None
    assert all(torch.equal(a, b) for a, b in zip(given, inputs, strict=False))
    assert given[-1] == states


@pytest.mark.parametrize('dtype', HALF_A_STEP)
def test_compiles(dtype, tmp_path, monkeypatch):
    pytest.importorskip('cuda.bindings')
    monkeypatch.setenv('MMV2M_CACHE_DIR', str(tmp_path))
    inputs = make_inputs((3,), 96, 5, 3, 2, dtype)
    calls = launches_of_cuda(projection.project, *inputs, 3)
    for architecture in ('sm_80', 'sm_90'):
        cubin = compile_kernel(calls[0].source, calls[0].definitions, architecture)
        assert cubin[:4] == b'\x7fELF'
