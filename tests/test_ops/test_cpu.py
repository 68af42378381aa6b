"""The CPU's kernels in C++ against the float64 reference."""

import pytest
import torch
from kernel_comparison import CORNERS, compare_backend
from operator_calls import cases, outputs
from scan_inputs import make_inputs, make_ssm_inputs

from mmv2m.ops import Halves, choose_backend, corner_ssm, directional_conv, directional_scan
from mmv2m.ops import directional_ssm, gated_linear
from mmv2m.ops.cpu import ssm

pytestmark = pytest.mark.skipif(
    choose_backend('auto', torch.zeros(1)) != 'cpu', reason='there is no C++ compiler'
)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
SHAPES = [(2, 3, 5, 4), (1, 1, 7, 19), (2, 4, 1, 8), (1, 2, 2, 70), (3, 1, 1, 1)]


def compare(function, tensors, tolerance, **options):
    compare_backend(function, tensors, tolerance, 'cpu', **options)


def tensors_of(inputs):
    return {name: v for name, v in inputs.items() if not isinstance(v, bool)}


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('direction', CORNERS)
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('states', [1, 3, 16])
def test_scan(dtype, direction, shape, states):
    inputs = tensors_of(make_inputs(shape, states, dtype))
    compare(directional_scan, inputs, TOLERANCE[dtype], delta_softplus=True, direction=direction)


@pytest.mark.parametrize('B', [None, 'constant', 'token'])
@pytest.mark.parametrize('C', [None, 'constant', 'token'])
@pytest.mark.parametrize('direction', ['right', 'up'])
def test_forms_of_the_projections(B, C, direction):
    inputs = tensors_of(make_inputs((2, 3, 4, 11), 3, torch.float32, B, C))
    compare(directional_scan, inputs, 1e-5, delta_softplus=True, direction=direction)


@pytest.mark.parametrize('left_out', ['D', 'z', 'delta_bias', 'delta_softplus'])
def test_optional_arguments(left_out):
    inputs = tensors_of(make_inputs((2, 3, 4, 11), 3, torch.float32))
    if left_out in inputs:
        inputs[left_out] = None
    else:
        inputs['delta'] = inputs['delta'].abs()
    softplus = left_out != 'delta_softplus'
    compare(directional_scan, inputs, 1e-5, delta_softplus=softplus, direction='left')
