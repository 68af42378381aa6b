"""Triton's gradients of projections of many sizes against float64; interpreted without a GPU."""

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip('triton')
from mmv2m.ops.triton.projection_backward import project_backward  # noqa: E402

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""Relative to the largest number; Triton's interpreter cuts bfloat16 off."""


def make_inputs(rank, states, sides, dtype, tokens=70, channels=136):
    """Two partial sums of what the sides get; channels of several blocks, the last one not full."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size):
        return torch.randn(*size, generator=generator).to(DEVICE)

    width = rank + sides * states
    maps = [normal(tokens, channels).to(dtype) for _ in range(3)]
    grad_sides = [normal(2, tokens, states) for _ in range(sides)]
    grad_x, grad_delta, x = maps
    low_rank = normal(tokens, rank).to(dtype)
    weights = normal(width, channels) / 8, normal(channels, rank) / rank**0.5
    return grad_x, grad_delta, grad_sides, x, low_rank, *weights


def expect(grad_x, grad_delta, grad_sides, x, low_rank, weight, dt_weight):
    """In float64: gradients of the weights, of what is projected, and of x."""
    grad_x, grad_delta, x, low_rank, weight, dt_weight = (
        t.double() for t in (grad_x, grad_delta, x, low_rank, weight, dt_weight)
    )
    sides = [side.double().sum(0) for side in grad_sides]
    projected = torch.cat([grad_delta @ dt_weight, *sides], -1)
    return projected.T @ x, grad_delta.T @ low_rank, projected, grad_x + projected @ weight


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('adds', [True, False])
@pytest.mark.parametrize('sides', [1, 2])
@pytest.mark.parametrize('states', [1, 3, 16])
@pytest.mark.parametrize('rank', [1, 6, 12, 24, 33, 48])
def test_project_backward(rank, states, sides, adds, dtype):
    inputs = make_inputs(rank, states, sides, dtype)
    expected, before = expect(*inputs), inputs[0].clone()
    grad_weight, grad_dt_weight, (projected, weight) = project_backward(*inputs, adds=adds)
    assert weight is inputs[5] and projected.shape[1] % 16 == 0
    width = rank + sides * states
    assert not projected[:, width:].any()
    found = (grad_weight.sum(0), grad_dt_weight.sum(0), projected[:, :width], inputs[0])
    for one, other in zip(found[: 3 + adds], expected[: 3 + adds], strict=True):
        atol = TOLERANCE[dtype] * other.abs().max().item()
        assert_close(one.double(), other, rtol=0, atol=atol)
    assert adds or torch.equal(inputs[0], before)
