"""The norms in CUDA C++ against float64, both passes; emulated where there is no GPU."""

from itertools import product

import naive
import pytest
import torch
from cuda_emulation import DEVICE, launches_of_cuda, needs_a_device

from mmv2m.ops import add_norm, channel_norm

pytest.importorskip('triton')
from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.gpu.norms import (  # noqa: E402
    add_norm_backward,
    add_norm_forward,
    norm_backward,
    norm_forward,
)

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}

pytestmark = needs_a_device

KERNELS = Kernels(cuda)
"""Without Triton's, which would take what these do not."""


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def compare(found, truth, dtype):
    for gradient, expected in zip(found, truth, strict=True):
        assert (gradient is None) == (expected is None)
        if gradient is not None:
            assert naive.relative_error(gradient.cpu(), expected) < TOLERANCE[dtype]


def exact(tensors):
    return [None if t is None else t.detach().double().requires_grad_() for t in tensors]


SHAPES = [(1, 4), (67, 12), (130, 48), (35, 96), (9, 192), (5, 384), (3, 1536)]
KINDS = list(product([False, True], repeat=2))
DTYPES = list(TOLERANCE)


# How a thread's channels are spread, in which format they come and which parameters there are is
# each compiled apart from the others: every two of them meet, dtypes taking turns. So every shape
# has every dtype and every kind, and every kind has every dtype.
@pytest.mark.parametrize(
    ('rows', 'channels', 'bias', 'offset', 'dtype'),
    [
        (*shape, *kind, DTYPES[(i + k) % len(DTYPES)])
        for i, shape in enumerate(SHAPES)
        for k, kind in enumerate(KINDS)
    ],
)
def test_norm_of_a_map(rows, channels, bias, offset, dtype):
    """Rows that warps do not share evenly; threads that have 4 channels, 12 or 48 of a row."""
    tensors = [normal(rows, channels).to(dtype) + 3, normal(channels)]
    tensors += [
        normal(channels + i)[i:] if there else None for i, there in ((0, bias), (1, offset))
    ]
    grad = normal(channels, rows).T.contiguous().to(dtype)
    given = [None if t is None else t.to(DEVICE) for t in (grad, *tensors)]
    leaves = exact(tensors)
    y = channel_norm(*leaves[:3], 1e-3, leaves[3], backend='reference')
    y.backward(grad.double())
    found = norm_backward(KERNELS, *given, 1e-3)
    assert found[0].dtype == dtype
    compare(found, [None if leaf is None else leaf.grad for leaf in leaves], dtype)
    # The forward pass reads its parameters from where they lie aligned.
    x, *parameters = (None if t is None else t.clone() for t in given[1:])
    normed = norm_forward(KERNELS, x, *parameters, 1e-3)
    assert normed.dtype == dtype
    compare([normed], [y], dtype)


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('begins', [False, True])
@pytest.mark.parametrize('channels', [96, 768])
@pytest.mark.parametrize('scaled', [False, True])
def test_norm_of_a_sum(channels, begins, bias, dtype, scaled):
    maps = normal(4, 2, 3, 5, channels)
    residual = maps[1].to(dtype) if begins else maps[1]
    tensors = [maps[0].to(dtype), residual, normal(channels)]
    tensors.append(normal(channels) if bias else None)
    upstream = (maps[2].to(dtype), maps[3])
    leaves = exact(tensors)
    factor = torch.tensor([0.0, 1.25]) if scaled else None
    exact_factor = None if factor is None else factor.double()
    normed, total = add_norm(*leaves, eps=1e-3, backend='reference', factor=exact_factor)
    torch.autograd.backward((normed, total), [g.double() for g in upstream])
    given = [*upstream, total.detach().float(), *tensors[2:], factor]
    given = [None if t is None else t.to(DEVICE) for t in given]
    found = add_norm_backward(KERNELS, *given, 1e-3, begins)
    assert [t.dtype for t in found[:2]] == [dtype, residual.dtype]
    compare(found, [None if leaf is None else leaf.grad for leaf in leaves], dtype)
    summands = [t.to(DEVICE) for t in tensors[:2]]
    found = add_norm_forward(KERNELS, *summands, *given[3:], 1e-3)
    assert [t.dtype for t in found] == [dtype, torch.float32]
    compare(found[:1], [normed], dtype)
    compare(found[1:], [total], torch.float32)


@pytest.mark.parametrize(
    ('shape', 'offset'), [((3, 6), 0), ((2, 100), 0), ((0, 96), 0), ((3, 8), 1)]
)
def test_what_it_leaves_to_triton(shape, offset, monkeypatch):
    """Channels in no multiples of 4, too many for a thread, no rows, and maps that lie askew."""
    count = shape[0] * shape[1]
    x = torch.randn(count + offset)[offset:].view(shape)
    weight = torch.ones(shape[1])
    calls = []
    for name in ('norm_rows', 'norm_gradients'):
        monkeypatch.setattr(triton, name, lambda *args: calls.append(args))
    kernels = Kernels(cuda, triton)
    kernels.norm_gradients(x, None, x, weight, None, None, None, x, None, 1e-5)
    kernels.norm_rows(x, None, weight, None, None, None, x, None, 1e-5)
    assert len(calls) == 2


def test_the_forward_pass_leaves_parameters_that_lie_askew_to_triton(monkeypatch):
    x, askew, calls = torch.randn(3, 8), torch.ones(9)[1:], []
    weight = askew.clone()
    monkeypatch.setattr(triton, 'norm_rows', lambda *args: calls.append(args))
    for parameters in ((askew, None, None), (weight, askew, None), (weight, None, askew)):
        Kernels(cuda, triton).norm_rows(x, None, *parameters, None, x, None, 1e-5)
    assert len(calls) == 3


def test_stages_of_a_pyramid_share_a_forward_kernel():
    """Whatever the width, with an offset or not, of a map or of a sum."""
    compiled = set()
    for channels in (48, 96, 192, 384, 768):
        x, weight = torch.empty(2, 3, 3, channels, dtype=torch.bfloat16), torch.empty(channels)
        calls = [
            *launches_of_cuda(norm_forward, KERNELS, x, weight, weight, None, 1e-5),
            *launches_of_cuda(norm_forward, KERNELS, x, weight, weight, weight, 1e-5),
            *launches_of_cuda(add_norm_forward, KERNELS, x, x, weight, weight, None, 1e-5),
            *launches_of_cuda(add_norm_forward, KERNELS, x, x.float(), weight, weight, None, 1e-5),
        ]
        assert len(calls) == 4
        compiled.update(call.key() for call in calls)
    assert len(compiled) == 1
