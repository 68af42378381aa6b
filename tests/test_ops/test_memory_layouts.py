"""Tensors whose memory does not hold their numbers side by side, or holds those of opposite sign.

The kernels get addresses, so that such a tensor has to be copied, or they read other numbers.
"""

import pytest
import torch
from cuda_emulation import DEVICE, needs_a_device
from kernel_comparison import CORNERS, KERNELS
from scan_inputs import directions_of, make_inputs, make_ssm_inputs, with_gaps

from mmv2m.ops import add_norm, channel_norm, directional_conv, directional_scan, directional_ssm

pytest.importorskip('triton')
from mmv2m.ops.cuda.conv import convs_forward  # noqa: E402
from mmv2m.ops.cuda.scan_forward import scans_forward  # noqa: E402
from mmv2m.ops.gpu.scan_inputs import ScanInputs  # noqa: E402


def run(operator, tensors, **options):
    leaves = {
        name: t.to(DEVICE).requires_grad_() if isinstance(t, torch.Tensor) else t
        for name, t in tensors.items()
    }
    y = operator(**{name: options['lay'](t) for name, t in leaves.items()}, **options['given'])
    y.sum().backward()
    return [y, *(t.grad for t in leaves.values() if isinstance(t, torch.Tensor))]


OPERATORS = dict(
    scan=(directional_scan, make_inputs(dtype=torch.float32, B='constant', C='constant'), {}),
    conv=(
        directional_conv,
        dict(x=torch.rand(1, 2, 3, 4), weight=torch.rand(4, 3), bias=torch.rand(4)),
        dict(direction=['left', 'down']),
    ),
    ssm=(directional_ssm, make_ssm_inputs(), dict(directions=CORNERS, reduction='sum')),
    norm=(
        channel_norm,
        dict(
            x=torch.rand(1, 2, 3, 8),
            weight=torch.rand(8),
            bias=torch.rand(8),
            offset=torch.rand(8),
        ),
        {},
    ),
)


def negated(t):
    """What PyTorch makes of the imaginary part of a complex conjugate: negated when it is read."""
    return torch._neg_view(-t) if isinstance(t, torch.Tensor) else t


@pytest.mark.parametrize('lay', [with_gaps, negated])
@pytest.mark.parametrize('backend', KERNELS)
@pytest.mark.parametrize('name', OPERATORS)
def test_operators(name, backend, lay):
    operator, tensors, options = OPERATORS[name]
    given = options | dict(backend=backend)
    expected = run(operator, tensors, lay=lambda t: t, given=given)
    found = run(operator, tensors, lay=lay, given=given)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize('backend', KERNELS)
def test_negated_gradient(backend):
    operator, tensors, options = OPERATORS['conv']
    x, grad_y = tensors['x'].to(DEVICE).requires_grad_(), torch.rand(2, 1, 2, 3, 4, device=DEVICE)
    others = {name: tensors[name].to(DEVICE) for name in ('weight', 'bias')}
    y = operator(x, **others, **options, backend=backend)
    found = [torch.autograd.grad(y, x, g, retain_graph=True) for g in (grad_y, negated(grad_y))]
    assert torch.equal(*(grad for (grad,) in found))


@pytest.mark.parametrize('backend', KERNELS)
def test_add_norm(backend):
    branch, residual = torch.rand(2, 2, 1, 2, 8, device=DEVICE)
    weight, bias = torch.rand(2, 8, device=DEVICE, requires_grad=True)
    factor = torch.tensor([0.5, 2.0], device=DEVICE)
    results = []
    for lay in (lambda t: t, with_gaps):
        parts = dict(weight=lay(weight), bias=lay(bias), factor=lay(factor), backend=backend)
        normed, total = add_norm(branch, residual, **parts)
        results.append([normed, total, *torch.autograd.grad(normed.sum(), (weight, bias))])
    assert all(map(torch.equal, *results))


def test_numbers_that_are_one():
    x = torch.rand(1, 2, 3, 4, device=DEVICE)
    once = torch.tensor(2.0, device=DEVICE)
    scans = [
        directional_scan(x, x, -torch.ones(4, 2, device=DEVICE), D=D, backend=KERNELS[0])
        for D in (once.expand(4), once.repeat(4))
    ]
    assert torch.equal(*scans)


@needs_a_device
def test_scan_in_cuda():
    inputs = make_inputs((1, 2, 3, 8), dtype=torch.float32)
    x, delta, B, C = (inputs[name][None].to(DEVICE) for name in ('x', 'delta', 'B', 'C'))
    A, D, bias = (inputs[name].to(DEVICE) for name in ('A', 'D', 'delta_bias'))
    ways = directions_of('left')
    results = [
        scans_forward(ScanInputs(x, delta, lay(A), B, C, lay(D), lay(bias), 'apply', ways), False)
        for lay in (lambda t: t, with_gaps)
    ]
    assert torch.equal(*results)


@needs_a_device
def test_conv_in_cuda():
    x, weight, bias = (torch.rand(*size, device=DEVICE) for size in ((1, 2, 3, 8), (8, 3), (8,)))
    ways = directions_of('left', 'down')
    results = [convs_forward(x, None, lay(weight), lay(bias), ways) for lay in (abs, with_gaps)]
    assert torch.equal(*results)
