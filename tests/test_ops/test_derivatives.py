"""Second derivatives, per-sample gradients and what there is none of, for every operator."""

import pytest
import torch
from cuda_emulation import DEVICE
from operator_calls import cases, fusing_backend, outputs
from torch.func import grad, jacrev, jvp, vmap

from mmv2m.ops import directional_conv


def named(dtype):
    made = cases(dtype)
    return pytest.mark.parametrize(
        ('name', 'call', 'tensors'), made, ids=[f'{case[0]}{i}' for i, case in enumerate(made)]
    )


def leaves(tensors):
    return [t.detach().to(DEVICE).requires_grad_() for t in tensors]


def first_derivatives(call, tensors, backend):
    total = sum(y.float().square().sum() for y in outputs(call, tensors, backend))
    return torch.autograd.grad(total, tensors, create_graph=True)


@named(torch.float64)
def test_second_derivatives_of_the_reference(name, call, tensors):
    def run(*tensors):
        return outputs(call, tensors, 'reference')

    assert torch.autograd.gradgradcheck(run, leaves(tensors), fast_mode=True)


def test_third_derivatives_of_the_reference():
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)

    def slope(x, weight):
        y = directional_conv(x, weight, backend='reference')
        return torch.autograd.grad(y.square().sum(), weight, create_graph=True)[0]

    assert torch.autograd.gradgradcheck(slope, (x, weight))


@named(torch.float32)
def test_fused_operators_say_that_they_have_no_second_derivatives(name, call, tensors):
    fused = fusing_backend(name)
    given = leaves(tensors)
    found = first_derivatives(call, given, fused)
    for one, expected in zip(found, first_derivatives(call, given, 'reference'), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-4)
    words = f"no second derivatives of {name} on the backend '{fused}'.*scan_backend='reference'"
    with pytest.raises(NotImplementedError, match=words):
        sum(one.sum() for one in found).backward()


@pytest.mark.parametrize('fused', [False, True])
@named(torch.float32)
def test_gradients_of_each_sample(name, call, tensors, fused):
    backend = fusing_backend(name) if fused else 'reference'
    if backend == 'triton' and name in ('directional_scan', 'directional_ssm', 'corner_ssm'):
        pytest.skip('the interpreter takes long, and ss2d runs the same kernels')
    x, *others = (t.to(DEVICE) for t in tensors)
    maps, of_one = torch.stack([x, x - 0.5]), (0, *[None] * len(others))

    def loss(x, *others):
        return sum(y.float().square().sum() for y in outputs(call, (x, *others), backend))

    def of_all(*tensors):
        return vmap(loss, of_one)(*tensors).sum()

    numbers = tuple(range(len(tensors)))
    found = vmap(grad(loss, numbers), of_one)(maps, *others)
    each = [grad(loss, numbers)(x, *others) for x in maps]
    for one, expected in zip(found, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(expected), rtol=1e-4, atol=1e-4)
    of_maps, *of_others = grad(of_all, numbers)(maps, *others)
    torch.testing.assert_close(of_maps, found[0], rtol=1e-4, atol=1e-4)
    for one, expected in zip(of_others, found[1:], strict=True):
        torch.testing.assert_close(one, expected.sum(0), rtol=1e-4, atol=1e-4)


def test_hessians_by_transforms():
    x = torch.randn(1, 1, 3, 2, dtype=torch.float64)
    weight = torch.randn(2, 2, dtype=torch.float64)

    def loss(weight):
        return directional_conv(x, weight, backend='reference').square().sum()

    found = jacrev(jacrev(loss))(weight)
    torch.testing.assert_close(found, torch.autograd.functional.hessian(loss, weight))


@named(torch.float32)
def test_derivatives_along_a_direction_are_refused(name, call, tensors):
    fused = fusing_backend(name)
    tensors = tuple(t.to(DEVICE) for t in tensors)
    with pytest.raises(NotImplementedError, match='has no derivatives in forward mode'):
        jvp(lambda *tensors: outputs(call, tensors, fused)[0], tensors, tensors)
