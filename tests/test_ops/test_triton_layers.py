"""MLPs, gates and norms of the kernels against the float64 reference.

Triton's are interpreted without a GPU.
"""

import pytest
import torch
from kernel_comparison import DEVICE, KERNELS, TOLERANCE, compare

from mmv2m.ops import add_norm, channel_norm, gated_linear, mlp

pytest.importorskip('triton')


@pytest.mark.parametrize('dtype', TOLERANCE)
def test_gated_linear(dtype):
    x, z = torch.randn(2, 3, 5, 2, 70, generator=torch.Generator().manual_seed(0)).to(dtype)
    compare(gated_linear, dict(x=x, z=z, weight=x[0].flatten(0, 1)), TOLERANCE[dtype])


def make_mlp_inputs(shape, bias=True, dtype=torch.float32, hidden=11, outputs=6):
    generator = torch.Generator().manual_seed(0)
    channels = max(shape[-1], 1)
    tensors = dict(
        x=2 * torch.randn(shape, generator=generator),
        weight=torch.randn(hidden, shape[-1], generator=generator) / channels**0.5,
        bias=torch.randn(hidden, generator=generator),
        out_weight=torch.randn(outputs, hidden, generator=generator),
        out_bias=torch.randn(outputs, generator=generator),
    )
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    return tensors if bias else tensors | dict(bias=None, out_bias=None)


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize(('shape', 'hidden'), [((5,), 3), ((3, 9), 35), ((2, 3, 5, 7), 70)])
def test_mlp(shape, hidden, bias, dtype):
    compare(mlp, make_mlp_inputs(shape, bias, dtype, hidden), 2 * TOLERANCE[dtype])


@pytest.mark.parametrize('left_out', ['bias', 'out_bias'])
def test_mlp_with_one_bias(left_out):
    inputs = make_mlp_inputs((37, 20), hidden=150, outputs=140) | {left_out: None}
    compare(mlp, inputs, 2 * TOLERANCE[torch.float32])


def test_mlp_of_a_transposed_map():
    inputs = make_mlp_inputs((3, 5, 7))

    def transposed(x, **parameters):
        return mlp(x.transpose(0, 1), **parameters)

    compare(transposed, inputs, 2 * TOLERANCE[torch.float32])


def test_gelu_of_extreme_numbers():
    x = torch.tensor([-1e18, -40.0, -6.0, -0.0, 1e-30, 6.0, 40.0, 1e18], device=DEVICE)
    one = torch.ones(1, 1, device=DEVICE)
    for backend in KERNELS:
        leaf = x.clone().requires_grad_()
        y = mlp(leaf[:, None], one, None, one, None, backend=backend)
        y.sum().backward()
        twin = x.double().requires_grad_()
        truth = torch.nn.functional.gelu(twin)
        truth.sum().backward()
        assert torch.allclose(y.double()[:, 0], truth, rtol=1e-6, atol=1e-6)
        assert torch.allclose(leaf.grad.double(), twin.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ('shape', 'hidden'), [((0, 4), 11), ((2, 0, 3, 4), 11), ((2, 3, 0), 11), ((2, 3, 4), 0)]
)
def test_mlp_of_empty_maps(shape, hidden):
    inputs = make_mlp_inputs(shape, hidden=hidden)
    leaves, twins = (
        {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items()} for _ in range(2)
    )
    results = []
    for backend, given in (('triton', leaves), ('reference', twins)):
        y = mlp(**given, backend=backend)
        y.sum().backward()
        results.append([y, *(leaf.grad for leaf in given.values())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mlp_under_autocast(dtype):
    """Its dtype in the maps; the parameters' gradients in theirs."""
    inputs = make_mlp_inputs((3, 35), hidden=20)
    leaves = {k: v.to(DEVICE).requires_grad_() for k, v in inputs.items()}
    with torch.autocast(DEVICE, dtype):
        y = mlp(**leaves, backend='triton')
        y.backward(torch.full_like(y, 1 / 3))
    assert y.dtype == dtype
    assert all(leaf.grad.dtype == torch.float32 for leaf in leaves.values())
    # Exact in float32: a half precision sum of three such numbers would be rounded.
    third = torch.full_like(y, 1 / 3).float()
    assert torch.equal(leaves['out_bias'].grad, third.sum(0))


def test_mlp_keeps_its_hidden_layer_once():
    inputs = {k: v.to(DEVICE).requires_grad_() for k, v in make_mlp_inputs((2, 3, 4)).items()}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        mlp(**inputs, backend='triton')
    own = {t.data_ptr() for t in inputs.values()}
    assert [tuple(t.shape) for t in kept if t.data_ptr() not in own] == [(2, 3, 11)]


def test_mlp_leaves_the_gradient_it_is_given():
    x, *parameters = (t.to(DEVICE) for t in make_mlp_inputs((3, 6)).values())
    x = x.requires_grad_()
    y = mlp(x, *parameters, backend='triton')
    grad_y, before = torch.ones_like(y), x.detach().clone()
    first = torch.autograd.grad(y, x, grad_y, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(y, x, grad_y)[0], first)
    assert torch.equal(grad_y, torch.ones_like(y)) and torch.equal(x, before)


@pytest.mark.parametrize('bias', [False, True])
def test_opcheck_mlp(bias):
    x, *parameters = make_mlp_inputs((1, 2, 3, 5), bias).values()
    x, *parameters = (
        None if t is None else t.to(DEVICE).requires_grad_() for t in (x, *parameters)
    )
    torch.library.opcheck(torch.ops.mmv2m.mlp.default, (x, parameters, 'triton'))


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (35, 300), (0, 5)])
@pytest.mark.parametrize('offset', [False, True])
def test_channel_norm(shape, bias, dtype, offset):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype)
    weight, shift = torch.randn(2, shape[-1], generator=generator)
    tensors = dict(x=x, weight=weight, bias=shift if bias else None)
    tensors['offset'] = torch.randn(shape[-1], generator=generator) if offset else None
    compare(channel_norm, tensors, TOLERANCE[dtype])


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (1, 5, 7, 300)])
@pytest.mark.parametrize('begins, scaled', [(False, False), (True, False), (False, True)])
def test_add_norm(shape, bias, dtype, begins, scaled):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, *shape, generator=generator)
    weight, shift = torch.randn(2, shape[-1], generator=generator)
    residual = maps[1].to(dtype) if begins else maps[1]
    tensors = dict(branch=maps[0].to(dtype), residual=residual, weight=weight)
    tensors['bias'] = shift if bias else None

    factors = [0.0, 1.25][-shape[0] :] if scaled else None

    def both(x, **others):
        exact = torch.promote_types(x.dtype, torch.float32)
        factor = None if factors is None else torch.tensor(factors, dtype=exact, device=x.device)
        normed, total = add_norm(x, factor=factor, **others)
        return (normed + 2 * total).to(x.dtype)

    compare(both, dict(x=tensors.pop('branch'), **tensors), TOLERANCE[dtype])
