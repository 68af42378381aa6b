"""The CPU's kernels of the coupled scan against the float64 reference."""

import pytest
import torch
from cpu_kernels import needs_cpu_kernels
from kernel_comparison import compare_backend
from scan_inputs import make_coupled_inputs

from mmv2m.models import V2M
from mmv2m.ops import CORNERS, coupled_scan

pytestmark = needs_cpu_kernels
ALL = tuple(CORNERS)


def compare(inputs, tolerance=1e-5, corners=ALL, delta_softplus=True):
    tensors = {name: v for name, v in inputs.items() if not isinstance(v, bool)}
    options = dict(delta_softplus=delta_softplus, corners=corners)
    compare_backend(coupled_scan, tensors, tolerance, 'cpu', **options)


def inputs_of(grid, channels=5, states=3, dtype=torch.float32, corners=ALL):
    return make_coupled_inputs(corners, grid, channels, states, dtype)


@pytest.mark.parametrize('grid', [(2, 3, 5), (1, 1, 7), (2, 4, 1), (1, 6, 6)])
@pytest.mark.parametrize('channels', [1, 32, 33, 70])
@pytest.mark.parametrize('states', [1, 2, 16])
def test_agrees_with_the_reference(grid, channels, states):
    compare(inputs_of(grid, channels, states))


@pytest.mark.parametrize('corner', ALL)
def test_each_corner(corner):
    compare(inputs_of((2, 3, 4), corners=(corner,)), corners=(corner,))


def test_bfloat16():
    compare(inputs_of((2, 5, 4), 37, dtype=torch.bfloat16), 1e-2)


@pytest.mark.parametrize('left_out', ['D', 'delta_bias', 'delta_softplus'])
def test_optional_arguments(left_out):
    inputs = inputs_of((2, 3, 4))
    if left_out == 'delta_softplus':
        inputs['delta'], inputs['delta_bias'] = inputs['delta'].abs(), inputs['delta_bias'].abs()
    else:
        inputs[left_out] = None
    compare(inputs, delta_softplus=left_out != 'delta_softplus')


@pytest.mark.parametrize('grid', [(1, 70, 64), (1, 64, 70), (1, 300, 5)])
def test_bands_of_rows(grid):
    """Maps of which not all states are kept at once."""
    corners = ('UL', 'LL')
    compare(inputs_of(grid, 3, 16, corners=corners), corners=corners)


@pytest.mark.parametrize('axis', range(5))
def test_empty(axis):
    sizes = [4, 2, 3, 4, 5]
    if axis == 0:
        pytest.skip('there is no corner to start from')
    sizes[axis] = 0
    inputs = inputs_of(tuple(sizes[1:4]), sizes[4])
    leaves = [v.requires_grad_() for v in inputs.values() if isinstance(v, torch.Tensor)]
    y = coupled_scan(**inputs, corners=ALL, backend='cpu')
    y.sum().backward()
    assert y.shape == torch.Size(sizes)
    assert all(leaf.grad.shape == leaf.shape for leaf in leaves)


def test_any_strides():
    inputs = inputs_of((2, 3, 4), 6)
    product = torch.randn(*inputs['x'].shape[:-1], 2 + 2 * 6)
    B, C = (side.unflatten(-1, (2, 3)) for side in product[..., 2:].split(6, -1))
    turned = inputs['x'].transpose(2, 3).contiguous().transpose(2, 3)
    gaps = torch.stack((inputs['delta'], inputs['delta']), -1)[..., 0]
    y = coupled_scan(**inputs | dict(B=B, C=C, x=turned, delta=gaps), corners=ALL, backend='cpu')
    plain = inputs | dict(B=B.contiguous(), C=C.contiguous())
    assert torch.equal(y, coupled_scan(**plain, corners=ALL, backend='cpu'))


def test_two_runs_agree_to_the_bit():
    gradients = []
    for _ in range(2):
        leaves = {
            k: v.requires_grad_() if isinstance(v, torch.Tensor) else v
            for k, v in inputs_of((3, 4, 5)).items()
        }
        coupled_scan(**leaves, corners=ALL, backend='cpu').square().sum().backward()
        gradients.append([v.grad for v in leaves.values() if isinstance(v, torch.Tensor)])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_model():
    arch = dict(embed_dims=16, depths=(1, 1, 1, 1), state_dims=2)
    results, x = [], torch.rand(2, 3, 32, 32)
    for backend in ('cpu', 'reference'):
        torch.manual_seed(0)
        model = V2M(arch, img_size=32, patch_size=8, recurrence='coupled', scan_backend=backend)
        (y,) = model(x)
        y.square().sum().backward()
        results.append([y, *(p.grad for p in model.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
