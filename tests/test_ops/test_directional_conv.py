import itertools

import naive
import pytest
import torch

from mmv2m.ops import DIRECTIONS, directional_conv


def make_inputs(shape=(2, 3, 5, 4), taps=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    sizes = (shape, (shape[-1], taps), (shape[-1],))
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in sizes]


@pytest.mark.parametrize('direction', DIRECTIONS)
@pytest.mark.parametrize('taps', [1, 3, 4, 9])
@pytest.mark.parametrize('with_bias', [True, False])
def test_agrees_with_the_equation(direction, taps, with_bias):
    x, weight, bias = make_inputs(taps=taps)
    bias = bias if with_bias else None
    y = directional_conv(x, weight, bias, direction)
    assert naive.relative_error(y, naive.conv(x, weight, bias, direction)) < 1e-12


@pytest.mark.parametrize('direction', DIRECTIONS)
def test_gradcheck(direction):
    tensors = tuple(t.requires_grad_() for t in make_inputs((2, 2, 3, 2)))
    assert torch.autograd.gradcheck(lambda *t: directional_conv(*t, direction), tensors)


def test_walking_backwards_is_flipping():
    x, weight, bias = make_inputs()
    flipped = directional_conv(x.flip(1), weight, bias, 'down').flip(1)
    assert torch.allclose(directional_conv(x, weight, bias, 'up'), flipped)


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)]
)
def test_precision(dtype, tolerance):
    x, weight, bias = make_inputs(dtype=dtype)
    y = directional_conv(x, weight, bias, 'left')
    assert y.dtype == dtype
    assert naive.relative_error(y, naive.conv(x, weight, bias, 'left')) < tolerance


@pytest.mark.parametrize('shape', [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize('direction', ['right', 'up'])
def test_smallest_sizes(shape, direction):
    tensors = [t.requires_grad_() for t in make_inputs(shape)]
    y = directional_conv(*tensors, direction)
    y.sum().backward()
    assert y.shape == torch.Size(shape)
    assert all(t.grad.shape == t.shape for t in tensors)


@pytest.mark.parametrize('order', itertools.permutations(range(4)))
@pytest.mark.parametrize('taps', [1, 4])
def test_output_and_gradients_are_contiguous(order, taps):
    # A compiler relies on it: the operators' fakes say so.
    x, weight, _ = make_inputs(taps=taps)
    expected = directional_conv(x, weight, None, 'up')
    x = x.permute(order).contiguous().permute(torch.argsort(torch.tensor(order)).tolist())
    y = directional_conv(x, weight, None, 'up')
    assert y.is_contiguous()
    assert naive.relative_error(y, expected) < 1e-14
    gradients = torch.ops.mmv2m.directional_conv_backward(y, x, weight, None, 'up', 'reference')
    assert all(gradient.is_contiguous() for gradient in gradients)


def test_two_runs_agree_to_the_bit():
    gradients = []
    for _ in range(2):
        leaves = [t.requires_grad_() for t in make_inputs(dtype=torch.float32)]
        directional_conv(*leaves, 'left').square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_autocast_does_not_round_the_sums():
    inputs = make_inputs(dtype=torch.float32)
    expected = directional_conv(*inputs)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(directional_conv(*inputs), expected)


def test_backward_keeps_inputs_only():
    leaves, kept = [t.requires_grad_() for t in make_inputs()], []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        directional_conv(*leaves)
    assert {t.data_ptr() for t in kept} <= {t.data_ptr() for t in leaves}
