"""The CPU's gate, residual norm, and the mixer with them, against the float64 reference."""

import naive
import pytest
import torch
from cpu_kernels import needs_cpu_kernels
from kernel_comparison import compare_backend
from mixer_inputs import make_mixer_inputs, mix

from mmv2m.ops import add_norm, gated_linear

pytestmark = needs_cpu_kernels
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
SHAPES = [(2, 3, 5, 37), (1, 1, 1, 1), (1, 1, 1, 32), (3, 2, 1, 192), (1, 7, 2, 100)]
EMPTY = [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (1, 1, 1, 0)]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def norm_tensors(shape, dtype, stream, bias):
    """Branch, stream, weight and, for LayerNorm, bias; rows have means that are not 0."""
    branch, residual = draw(2, *shape).unbind()
    weight, shift = draw(2, shape[-1], seed=1).unbind()
    return [branch.to(dtype), (residual + 3).to(stream), weight, *([shift] if bias else [])]


def norm_and_gradients(tensors, factor, backend, dtype=None):
    """The norm, the sum, and the gradients of all tensors."""
    leaves = [t.to(dtype, copy=True).requires_grad_() for t in tensors]
    outs = add_norm(*leaves, eps=1e-3, factor=factor, backend=backend, **without_bias(leaves))
    upstream = [draw(*out.shape, seed=i).to(tensors[0].dtype).to(out) for i, out in enumerate(outs)]
    torch.autograd.backward(outs, upstream)
    return [*outs, *(leaf.grad for leaf in leaves)]


def without_bias(leaves):
    return {} if len(leaves) == 4 else dict(bias=None)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('scaled', [False, True])
@pytest.mark.parametrize(
    ('dtype', 'stream'),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_add_norm(shape, bias, scaled, dtype, stream):
    if bias and shape[-1] == 1:
        pytest.skip('one channel less its mean is 0, of which there is no relative error')
    tensors = norm_tensors(shape, dtype, stream, bias)
    factor = torch.arange(shape[0]) / 2 + 0.5 if scaled else None
    found = norm_and_gradients(tensors, factor, 'cpu')
    expected = norm_and_gradients(tensors, factor, 'reference', torch.float64)
    for i, (one, truth) in enumerate(zip(found, expected, strict=True)):
        assert naive.relative_error(one, truth) < TOLERANCE[dtype], i
    exact = torch.float32
    assert [t.dtype for t in found[:4]] == [dtype, exact, dtype, stream]


@pytest.mark.parametrize('shape', EMPTY)
@pytest.mark.parametrize('bias', [False, True])
def test_add_norm_of_nothing(shape, bias):
    tensors = norm_tensors(shape, torch.float32, torch.float32, bias)
    outs = norm_and_gradients(tensors, torch.ones(shape[0]), 'cpu')
    assert [t.shape for t in outs[:4]] == [shape] * 4
    assert all(not t.any() for t in outs[4:])


def test_add_norm_of_a_mean_far_from_zero():
    """The variance is that of what remains without the mean, not a difference of squares."""
    branch, residual, weight, bias = norm_tensors((1, 2, 3, 70), torch.float32, torch.float32, True)
    given = (branch, residual + 1e4, weight, bias)
    found = add_norm(*given, backend='cpu')[0]
    expected = add_norm(*(t.double() for t in given), backend='reference')[0]
    assert naive.relative_error(found, expected) < 1e-3  # what rounding of the sum makes


def test_nan_stays_in_its_token():
    branch, residual, weight = norm_tensors((1, 2, 3, 40), torch.float32, torch.float32, False)
    branch[0, 1, 1, 7] = float('nan')
    normed, total = add_norm(branch, residual, weight, backend='cpu')
    assert normed[0, 1, 1].isnan().all() and normed.isnan().sum() == 40
    assert total.isnan().sum() == 1


def test_add_norm_of_any_strides():
    branch, residual, weight = norm_tensors((2, 3, 4, 40), torch.float32, torch.float32, False)
    expected = add_norm(branch, residual, weight, backend='cpu')
    branch = branch.transpose(1, 2).contiguous().transpose(1, 2)
    residual = torch.stack((residual, residual), -1)[..., 0]
    factor = torch.stack((torch.ones(2), torch.zeros(2)), -1)[:, 0]
    found = add_norm(branch, residual, weight, backend='cpu', factor=factor)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('dtype', TOLERANCE)
def test_gated_linear(shape, dtype):
    x, z = draw(2, *shape).to(dtype).unbind()
    tensors = dict(x=x, z=z, weight=draw(6, shape[-1], seed=1).to(dtype))
    compare_backend(gated_linear, tensors, TOLERANCE[dtype], 'cpu')


@pytest.mark.parametrize('shape', EMPTY)
def test_gated_linear_of_nothing(shape):
    leaves = [draw(*s).requires_grad_() for s in (shape, shape, (6, shape[-1]))]
    y = gated_linear(*leaves, backend='cpu')
    y.sum().backward()
    assert y.shape == (*shape[:3], 6) and not y.any()
    assert all(leaf.grad.shape == leaf.shape and not leaf.grad.any() for leaf in leaves)


def test_gated_linear_of_halves_of_a_map():
    mixed, weight = draw(2, 3, 4, 74), draw(6, 37, seed=1)
    expected = gated_linear(*(t.contiguous() for t in mixed.chunk(2, -1)), weight, 'cpu')
    assert torch.equal(gated_linear(*mixed.chunk(2, -1), weight, 'cpu'), expected)


def mixer_inputs(dtype=torch.float32, **settings):
    return make_mixer_inputs(dtype=dtype, **settings) | dict(gate=None)


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('states', [1, 4])
@pytest.mark.parametrize('gated', [True, False])
@pytest.mark.parametrize(
    ('dtype', 'tolerance'),
    # Rounding the maps between makes 0.1 of a gradient that nearly cancels, on any backend.
    [(torch.float32, 4e-5), (torch.bfloat16, 0.12)],
)
def test_mixer(groups, states, gated, dtype, tolerance):
    inputs = mixer_inputs(dtype, groups=groups, states=states, gated=gated, grid=(2, 2, 3))
    compare_backend(mix, inputs, tolerance, 'cpu')


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('threads', [1, 2, 3])
@pytest.mark.parametrize('together', [1, 2**18])
def test_mixer_without_gradients(groups, threads, together, monkeypatch):
    """The last scan leaves its sum gated, however directions and channels are shared out."""
    monkeypatch.setattr('mmv2m.ops.cpu.ssm.TOGETHER', together)
    inputs = mixer_inputs(groups=groups)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = mix(**inputs, backend='cpu')
    finally:
        torch.set_num_threads(before)
    exact = {name: None if t is None else t.double() for name, t in inputs.items()}
    assert naive.relative_error(y, mix(**exact, backend='reference')) < 3e-5


@pytest.mark.parametrize('bias', [False, True])
def test_two_runs_agree_to_the_bit(bias):
    tensors = norm_tensors((3, 5, 7, 70), torch.float32, torch.float32, bias)
    one, other = (norm_and_gradients(tensors, torch.ones(3), 'cpu') for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    grads = []
    for _ in range(2):
        inputs = mixer_inputs(groups=2)
        leaves = {k: t if t is None else t.requires_grad_() for k, t in inputs.items()}
        mix(**leaves, backend='cpu').square().sum().backward()
        grads.append([t.grad for t in leaves.values() if t is not None])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
