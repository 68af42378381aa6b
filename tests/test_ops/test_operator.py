import importlib

import pytest
import torch
from cuda_emulation import DEVICE
from operator_calls import fusing_backend, operator_calls, outputs

from mmv2m.ops import directional_conv, directional_scan
from mmv2m.ops.operator import Operator

SHAPE = (2, 3, 4, 5)


def scan_arguments(B='token', C=None):
    generator = torch.Generator().manual_seed(0)
    x, delta, z = (torch.randn(SHAPE, generator=generator) for _ in range(3))
    per_token = torch.randn(*SHAPE[:3], 2, generator=generator)
    A = -torch.rand(5, 2, generator=generator)
    sides = [per_token if side else None for side in (B, C)]
    D, bias = torch.rand(5), torch.rand(5)
    tensors = [x, delta, A, *sides, D, z, bias]
    return [t if t is None else t.requires_grad_() for t in tensors]


class TwoOperators(torch.nn.Module):
    def forward(self, x, weight, delta, A):
        return directional_scan(directional_conv(x, weight, direction='up'), delta, A)


def module_arguments():
    return torch.rand(SHAPE), torch.rand(5, 4), torch.rand(SHAPE), -torch.rand(5, 2)


def nodes_of(graph):
    return [str(node.target) for node in graph.nodes if 'mmv2m' in str(node.target)]


@pytest.mark.parametrize(('B', 'C'), [('token', None), (None, 'token'), (None, None)])
def test_opcheck_scan(B, C):
    arguments = (*scan_arguments(B, C), True, 'down', 'reference')
    torch.library.opcheck(torch.ops.mmv2m.directional_scan.default, arguments)


@pytest.mark.parametrize('with_bias', [True, False])
def test_opcheck_conv(with_bias):
    x, weight, bias = torch.randn(SHAPE), torch.randn(5, 4), torch.randn(5)
    tensors = [t.requires_grad_() for t in (x, weight, bias)]
    arguments = (*tensors[:2], bias if with_bias else None, 'left', 'reference')
    torch.library.opcheck(torch.ops.mmv2m.directional_conv.default, arguments)


ALL_CALLS = {name: calls[0] for name, calls in operator_calls(torch.float32).items()}


@pytest.mark.parametrize('name', ALL_CALLS)
def test_opcheck_with_its_backward(name, monkeypatch):
    backend, seen, plain = fusing_backend(name), {}, Operator.__call__

    def note(self, *args):
        seen[self.name] = self.overload, [_copied(arg) for arg in args]
        return plain(self, *args)

    monkeypatch.setattr(Operator, '__call__', note)
    call, tensors = ALL_CALLS[name]
    y = outputs(call, [t.clone().to(DEVICE).requires_grad_() for t in tensors], backend)
    torch.autograd.backward(y, [torch.randn_like(t) for t in y])
    assert list(seen) == [name, f'{name}_backward']
    checks = ['test_schema', 'test_autograd_registration', 'test_faketensor']
    if name not in ('directional_ssm', 'corner_ssm'):  # which take long, and ss2d is like them
        checks.append('test_aot_dispatch_dynamic')
    for op, args in seen.values():
        torch.library.opcheck(op, args, test_utils=checks)


@pytest.mark.parametrize('name', ['directional_conv', 'directional_scan'])
def test_opcheck_second_derivatives(name):
    call, tensors = ALL_CALLS[name]
    (y,) = outputs(call, tensors, 'reference')
    leaves = [t.clone().requires_grad_() for t in (torch.ones_like(y), *tensors)]
    options = (True, 'up') if name == 'directional_scan' else ('right',)
    op = getattr(torch.ops.mmv2m, f'{name}_backward').default
    torch.library.opcheck(op, (*leaves, *options, 'reference'))


def test_opcheck_inference(monkeypatch):
    backend, seen = fusing_backend('ss2d'), []
    inference = importlib.import_module('mmv2m.ops.ss2d')._ss2d_inference
    monkeypatch.setattr(inference, 'function', lambda *args: seen.append(args))
    call, tensors = ALL_CALLS['ss2d']
    call(*(t.to(DEVICE) for t in tensors), backend=backend)
    torch.library.opcheck(inference.overload, seen[0])


def _copied(arg):
    """Only the operator itself is checked with gradients; its backward operator has none."""
    if isinstance(arg, list | tuple):
        return [_copied(one) for one in arg]
    if not isinstance(arg, torch.Tensor):
        return arg
    return arg.detach().clone().requires_grad_(arg.requires_grad and torch.is_grad_enabled())


def test_compile_sees_one_node_an_operator():
    graphs = []

    def backend(module, inputs):
        graphs.append(module.graph)
        return module.forward

    arguments = module_arguments()
    y = torch.compile(TwoOperators(), backend=backend, fullgraph=True)(*arguments)
    assert torch.equal(y, TwoOperators()(*arguments))
    assert [n.count('mmv2m') for graph in graphs for n in nodes_of(graph)] == [1, 1]


def test_compiled_gradients():
    arguments = [a.requires_grad_() for a in module_arguments()]
    compiled = torch.compile(TwoOperators(), backend='aot_eager', fullgraph=True)
    gradients = [
        torch.autograd.grad(run(*arguments).sin().sum(), arguments)
        for run in (compiled, TwoOperators())
    ]
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_export_sees_one_node_an_operator():
    exported = torch.export.export(TwoOperators(), module_arguments())
    assert nodes_of(exported.graph) == [
        'mmv2m.directional_conv.default',
        'mmv2m.directional_scan.default',
    ]


def test_backward_keeps_inputs_only():
    arguments = scan_arguments()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        directional_scan(*arguments, delta_softplus=True)
    assert {t.data_ptr() for t in kept} <= {t.data_ptr() for t in arguments if t is not None}
