"""The coupled scan in onnxruntime."""

import naive
import naive_coupled
import numpy as np
import pytest
import torch
from onnx_runs import another_batch, export, run_program
from scan_inputs import make_coupled_inputs
from torch import nn

from mmv2m.ops import CORNERS, Corner, coupled_scan

ALL = tuple(CORNERS)
MAPS = ('x', 'delta', 'B', 'C')
IMAGES = dict(x=1, delta=2, B=1, C=1)
"""Axis of the images."""


class Scans(nn.Module):
    """Several coupled scans of the same maps, of which images are the first axis."""

    def __init__(self, parameters, calls):
        super().__init__()
        self.parameters_of_scan, self.calls = parameters, calls

    def forward(self, x, others):
        maps = zip(MAPS, (x, *others), strict=True)
        inputs = {name: m.movedim(0, IMAGES[name]) for name, m in maps}
        inputs |= self.parameters_of_scan
        return tuple(coupled_scan(**inputs | call) for call in self.calls)


def prepare(inputs, calls):
    """The module, and its inputs."""
    parameters = {k: v for k, v in inputs.items() if k not in MAPS}
    return Scans(parameters, calls), [
        inputs[name].movedim(IMAGES[name], 0).contiguous() for name in MAPS
    ]


def run_naive(inputs, corners):
    """Token by token in float64."""
    not_so_named = ('delta_bias', 'delta_softplus', 'corners')
    renamed = {k: v for k, v in inputs.items() if k not in not_so_named}
    bias, softplus = inputs.get('delta_bias'), inputs.get('delta_softplus', False)
    return naive_coupled.coupled_scan(**renamed, bias=bias, use_softplus=softplus, corners=corners)


def run_both(inputs, calls):
    """Pairs of what the loops and onnxruntime compute, and the program; of another batch."""
    module, maps = prepare(inputs, calls)
    program, maps = export(module, *maps), another_batch(maps)
    results = run_program(program, maps)
    moved = {n: m.movedim(0, IMAGES[n]) for n, m in zip(MAPS, maps, strict=True)}
    expected = [run_naive(inputs | moved | call, call['corners']) for call in calls]
    return list(zip(expected, map(torch.from_numpy, results), strict=True)), program


def assert_close(pairs, dtype=torch.float32, tolerance=1e-6):
    for expected, result in pairs:
        assert result.dtype == dtype and result.shape == expected.shape
        assert naive.relative_error(result, expected) < tolerance


@pytest.mark.parametrize('grid', [(3, 5), (1, 4), (4, 1), (1, 1)])
@pytest.mark.parametrize('states', [1, 3])
def test_all_corners(grid, states):
    inputs = make_coupled_inputs(ALL, (2, *grid), states=states, dtype=torch.float32)
    pairs, program = run_both(inputs, [dict(corners=ALL), dict(corners=ALL[::-1])])
    assert_close(pairs)
    kinds = [node.op_type for node in program.model_proto.graph.node]
    assert kinds.count('Scan') == 2 * len(ALL)


@pytest.mark.parametrize('corner', ALL)
def test_optional_arguments(corner):
    """Each is left out of a scan of its own, and all of the last one."""
    inputs = make_coupled_inputs((corner,), dtype=torch.float32)
    inputs['delta'], inputs['delta_bias'] = inputs['delta'].abs(), inputs['delta_bias'].abs()
    left_out = [dict(D=None), dict(delta_bias=None), dict(delta_softplus=False)]
    left_out.append(left_out[0] | left_out[1] | left_out[2])
    assert_close(run_both(inputs, [dict(corners=(corner,)) | call for call in left_out])[0])


def test_a_corner_with_its_directions_in_the_other_order():
    inputs = make_coupled_inputs(('UL',), dtype=torch.float32)
    module, maps = prepare(inputs, [dict(corners=[Corner.of('down', 'right')])])
    (result,) = run_program(export(module, *maps), maps)
    turned = {k: inputs[k].transpose(-3, -2) for k in ('x', 'delta')}
    turned |= {k: inputs[k].transpose(2, 3) for k in ('B', 'C')}
    expected = run_naive(inputs | turned, ('UL',)).transpose(2, 3)
    assert_close([(expected, torch.from_numpy(result))])


def test_half_precision_keeps_states_in_float32():
    """What is lost is what the result loses when it is rounded."""
    inputs = make_coupled_inputs(ALL, (2, 3, 5), dtype=torch.float16)
    ((expected, result),), _ = run_both(inputs, [dict(corners=ALL)])
    assert_close([(expected, result)], torch.float16, 3e-4)


def test_double_precision():
    """Without a softplus, which onnxruntime has not in float64."""
    inputs = make_coupled_inputs(ALL, (2, 3, 5)) | dict(delta_softplus=False)
    inputs['delta'], inputs['delta_bias'] = inputs['delta'].abs(), inputs['delta_bias'].abs()
    assert_close(run_both(inputs, [dict(corners=ALL)])[0], torch.float64, 1e-12)


@pytest.mark.parametrize('images', [0, 1])
def test_smallest_batches(images):
    inputs = make_coupled_inputs(ALL, (2, 3, 4), dtype=torch.float32)
    module, maps = prepare(inputs, [dict(corners=ALL)])
    (result,) = run_program(export(module, *maps), [m[:images] for m in maps])
    assert result.shape == (4, images, 3, 4, 4)
    expected = module(maps[0], maps[1:])[0][:, :images]
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-5, atol=1e-5)
