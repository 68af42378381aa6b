"""Convolution, projections and scan in one kernel of CUDA C++; emulated where there is no GPU."""

import pytest
import torch
from cuda_emulation import DEVICE, ON_GPU, launches, needs_a_device, nothing_launched
from naive import relative_error
from scan_inputs import directions_of
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


def walk(given, directions, projects, reduction='none', add_to=None, keeps=True, count=None):
    """By the kernel, which has to be launched, once for each axis."""
    ways = directions_of(*directions)
    with launches() as calls:
        result = ssm_forward.ssm_at_once(given, ways, projects, reduction, True, add_to, keeps)
    assert [call.source for call in calls] == ['ssm_forward.cu'] * len({w.axis for w in ways})
    return result


def exact(given, directions, projects, reduction):
    """The reference in float64."""
    tensors = [None if t is None else t.double() for t in given]
    options = dict(projects=projects, reduction=reduction, backend='reference')
    return directional_ssm(*tensors[:7], -tensors[7].exp(), tensors[8], directions, **options)


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
@pytest.mark.parametrize('channels', [32, 96, 192])
def test_channels(channels, projects, dtype):
    compare(make_tensors((2, 3, 7), channels, dtype=dtype), ['right', 'left'], projects)
    compare(make_tensors((1, 5, 2), channels, dtype=dtype, maps=2), ['down', 'up'], projects, 'sum')
