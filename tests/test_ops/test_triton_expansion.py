"""Triton's expansion of time steps against float64; interpreted without a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

pytest.importorskip('triton')
from mmv2m.ops import cuda, triton  # noqa: E402
from mmv2m.ops.gpu.kernels import Kernels  # noqa: E402
from mmv2m.ops.triton.expansion import expand  # noqa: E402
from mmv2m.ops.triton.projection import project  # noqa: E402

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
# How far rounding may move a number, relative to it; Triton's interpreter cuts bfloat16 off.
ROUNDING = {
    torch.float32: 1e-5,
    torch.bfloat16: 2**-8 if DEVICE == 'cuda' else 2**-7,
    torch.float16: 2**-11,
}


def make_inputs(tokens, channels, rank, dtype):
    """Biases whose time steps are from far below one to far above."""
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(*tokens, rank, generator=generator).to(dtype)
    weight = torch.randn(channels, rank, generator=generator) / rank**0.5
    bias = torch.linspace(-12, 12, channels)[torch.randperm(channels, generator=generator)]
    return [t.to(DEVICE) for t in (low_rank, weight, bias)]


def rounded(weight, dtype):
    """As the kernel rounds it; Triton's interpreter cuts bfloat16 off."""
    if dtype == torch.bfloat16 and DEVICE == 'cpu':
        return (weight.view(torch.int32) & -(2**16)).view(torch.float32).double()
    return weight.to(dtype).double()


def compare(delta, low_rank, weight, bias):
    """Against the exact one of what the product's numbers are rounded to."""
    dtype = low_rank.dtype
    assert delta.dtype == dtype and delta.is_contiguous()
    raw = low_rank.double() @ rounded(weight, dtype).T + bias.double()
    tiny = 2**-25 if dtype == torch.float16 else 0
    assert_close(delta.double(), F.softplus(raw), rtol=1.01 * ROUNDING[dtype], atol=tiny)


@pytest.mark.parametrize('dtype', ROUNDING)
@pytest.mark.parametrize('rank', [1, 3, 16, 24, 48, 70])
@pytest.mark.parametrize(
    ('tokens', 'channels'), [((1,), 5), ((7, 11), 96), ((77,), 200), ((1,), 200), ((2, 77), 128)]
)
def test_expand(tokens, channels, rank, dtype):
    inputs = make_inputs(tokens, channels, rank, dtype)
    delta = expand(*inputs)
    assert delta.shape == (*tokens, channels)
    compare(delta, *inputs)


def test_time_steps_from_far_below_one_to_far_above():
    low_rank, weight, bias = make_inputs((77,), 200, 3, torch.float32)
    delta = expand(low_rank, weight, 3 * bias)
    assert delta.min() < 1e-14 and delta.max() > 30
    compare(delta, low_rank, weight, 3 * bias)


def test_expand_of_what_has_gaps():
    low_rank, weight, bias = make_inputs((2, 9), 40, 3, torch.float32)
    expected = expand(low_rank, weight, bias)
    with_gaps = F.pad(low_rank, (0, 5))[..., :3]
    apart = torch.stack([bias, bias], -1)[:, 0]
    turned = weight.T.contiguous().T
    assert torch.equal(expand(with_gaps, turned, apart), expected)


@pytest.mark.parametrize('shape', [(0,), (2, 0, 3)])
def test_no_tokens(shape):
    delta = expand(*make_inputs(shape, 6, 3, torch.bfloat16))
    assert delta.shape == (*shape, 6) and delta.dtype == torch.bfloat16


@pytest.mark.parametrize('dtype', ROUNDING)
def test_projections_are_expanded_from_the_low_rank_as_it_is_kept(dtype):
    _, weight, bias = make_inputs((0,), 70, 5, dtype)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 33, 70, generator=generator).to(DEVICE, dtype)
    x_proj = torch.randn(5 + 4, 70, generator=generator).to(DEVICE) / 8
    low_rank, delta, _ = project(x, x_proj, weight, bias, 4)
    assert torch.equal(delta, expand(low_rank, weight, bias))
    compare(delta, low_rank, weight, bias)


def test_both_sets_of_kernels_have_it():
    assert Kernels(triton).expand is Kernels(cuda, triton).expand is expand
