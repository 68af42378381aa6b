"""The scan and the convolution as ONNX, in onnxruntime."""

import onnxruntime
import pytest
import torch
from onnx_runs import assert_equal, run
from torch import nn

from mmv2m.ops import DIRECTIONS, directional_conv, directional_scan
from mmv2m.ops.onnx import translations

B, H, W, E, N = 2, 3, 5, 4, 3


class Calls(nn.Module):
    """Several calls of an operator on the same map, so that one export tries all of them."""

    def __init__(self, operator, calls):
        super().__init__()
        self.operator, self.calls = operator, calls

    def forward(self, x, others):
        return tuple(self.operator(x, *others, **call) for call in self.calls)


def draw(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


A = -draw(E, N).abs() - 0.1
SCANS = [
    *(dict(A=A, direction=way, delta_softplus=True, D=draw(E)) for way in DIRECTIONS),
    dict(A=A, delta_bias=draw(E), delta_softplus=True, B=draw(E, N), direction='up'),
    dict(A=A, delta_softplus=True, C=draw(E, N), B=draw(E, N)),
]


def test_scans_of_constant_projections():
    expected, results, program = run(
        Calls(directional_scan, SCANS), draw(B, H, W, E), draw(B, H, W, E)
    )
    assert_equal(expected, results)
    kinds = [node.op_type for node in program.model_proto.graph.node]
    assert kinds.count('Scan') == len(SCANS)


class TokenScans(nn.Module):
    """Scans whose projections, and gates, are there for each token."""

    def forward(self, x, others):
        delta, p, z = others
        how = dict(delta_softplus=True, direction='left')
        return (
            directional_scan(x, delta, A.to(x), p, **how),
            directional_scan(x, delta, A.to(x), None, p, z=z, **how),
            directional_scan(x, delta, A.to(x), p, p, direction='down', delta_softplus=True),
        )


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-6), (torch.float16, 2e-3)])
def test_scans_of_projected_tokens(dtype, tolerance):
    maps = [draw(B, H, W, c, dtype=dtype) for c in (E, E, N, E)]
    assert_equal(*run(TokenScans(), *maps)[:2], tolerance)


def test_convolutions():
    ways = [dict(direction=way, bias=bias) for way in DIRECTIONS for bias in (None, draw(E))]
    calls = [dict(weight=draw(E, 4), **way) for way in ways]
    module = Calls(lambda x, other, **call: directional_conv(x + other, **call), calls)
    expected, results, _ = run(module, draw(B, H, W, E), draw(B, H, W, E))
    assert_equal(expected, results)


class TwiceAlongAll(nn.Module):
    """In several directions, of one map and of one map each."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(draw(E, 4)), nn.Parameter(draw(E))

    @torch.no_grad()
    def forward(self, x, others):
        maps = directional_conv(x + others[0], self.weight, self.bias, ('right', 'up', 'up'))
        return maps, directional_conv(maps, self.weight, None, ('left', 'down', 'up'))


def test_convolutions_in_several_directions():
    assert_equal(*run(TwiceAlongAll(), draw(B, H, W, E), draw(B, H, W, E))[:2])


def test_the_backend_that_is_asked_for_does_not_matter():
    """A graph has no backends; this one could not run here either."""
    module = Calls(directional_conv, [dict(weight=draw(E, 2), backend='cuda')])
    exported = run_without_comparison(module, draw(B, H, W, E))
    module.calls[0]['backend'] = 'reference'
    x = draw(B, H, W, E)
    assert_equal(module(x, ()), exported(x))


def run_without_comparison(module, x):
    program = torch.onnx.export(
        module.eval(),
        (x, ()),
        dynamo=True,
        verbose=False,
        custom_translation_table=translations(),
    )
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=['CPUExecutionProvider']
    )
    return lambda x: session.run(None, {session.get_inputs()[0].name: x.numpy()})
