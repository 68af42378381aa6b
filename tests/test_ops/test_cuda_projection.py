"""The projection in CUDA C++ against float64; emulated where there is no GPU."""

import naive
import pytest
import torch
import torch.nn.functional as F
from cuda_emulation import HAS_COMPILER, emulate

from mmv2m.ops.cuda_backend.launch import launch

pytest.importorskip('triton')
from mmv2m.ops.cuda_backend import projection  # noqa: E402

ON_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if ON_GPU else 'cpu'
HALVES = [torch.bfloat16, torch.float16]
SHIFT = {torch.bfloat16: 2**-8, torch.float16: 2**-11}

needs_a_device = pytest.mark.skipif(not (ON_GPU or HAS_COMPILER), reason='neither GPU nor g++')


def make_inputs(tokens, channels, rank, states, sides, dtype):
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator)

    weight = normal(rank + sides * states, channels) / channels**0.5
    dt_weight = normal(channels, rank) / rank**0.5
    return normal(*tokens, channels).to(dtype), weight, dt_weight, 3 * normal(channels) - 4


def project(inputs, states):
    launched = []

    def run(call, device):
        launched.append(call)
        (launch if ON_GPU else emulate)(call, device)

    given = [t.to(DEVICE) for t in inputs]
    result = projection.project(*given, states, launch=run)
    assert len(launched) == 1
    return result


def compare(tokens, channels, rank, states, sides, dtype):
    """Each stage against the exact one of what the kernel has rounded before."""
    inputs = make_inputs(tokens, channels, rank, states, sides, dtype)
    x, weight, dt_weight, dt_bias = inputs
    result = project(inputs, states)
    truth = x.double() @ weight.to(dtype).double().T
    low_rank = result.low_rank.cpu()
    assert low_rank.dtype == result.delta.dtype == dtype
    torch.testing.assert_close(low_rank.double(), truth[..., :rank], rtol=SHIFT[dtype], atol=1e-5)
    assert len(result.sides) == sides
    for i, side in enumerate(result.sides):
        first = rank + i * states
        expected = truth[..., first : first + states].float()
        torch.testing.assert_close(side.cpu(), expected, rtol=1e-4, atol=1e-5)
    raw = low_rank.double() @ dt_weight.to(dtype).double().T + dt_bias.double()
    delta = result.delta.cpu().double()
    torch.testing.assert_close(delta, F.softplus(raw), rtol=1.05 * SHIFT[dtype], atol=1e-7)
    return result


@needs_a_device
@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('channels', [32, 40, 96, 384])
def test_channels(channels, dtype):
    compare((2, 3, 7), channels, 12, 16, 1, dtype)


@needs_a_device
@pytest.mark.parametrize(
    ('rank', 'states', 'sides'),
    [(1, 1, 1), (3, 1, 2), (12, 3, 2), (24, 16, 2), (40, 32, 1), (5, 32, 2), (96, 16, 1)],
)
def test_ranks_and_states(rank, states, sides):
    compare((19,), 72, rank, states, sides, torch.float16)
