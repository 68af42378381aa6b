"""PyTorch's convolution, which torch.compile keeps as one node of ours."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from mmv2m.ops.convolution import conv2d

CASES = dict(
    strided=((8, 6, 3, 3), dict(stride=(2, 2), padding=(1, 1))),
    depthwise=((6, 1, 3, 3), dict(padding=(1, 1), groups=6)),
    dilated=((4, 6, 3, 2), dict(dilation=(2, 1))),
    pointwise=((4, 6, 1, 1), dict(stride=(1, 2))),
)
every_case = pytest.mark.parametrize('case', CASES)


def make_arguments(case, bias=True, dtype=torch.float32):
    """The arguments of a convolution of a channels-last map."""
    generator = torch.Generator().manual_seed(0)
    shape, options = CASES[case]
    weight = torch.randn(shape, generator=generator)
    shape = (2, 7, 9, weight.shape[1] * options.get('groups', 1))
    x = torch.randn(shape, generator=generator).permute(0, 3, 1, 2)
    shift = torch.randn(weight.shape[0], generator=generator) if bias else None
    tensors = [None if t is None else t.to(dtype).requires_grad_() for t in (x, weight, shift)]
    return tensors, options


def in_full(tensors, options):
    """The operator's arguments, in its schema's order."""
    names = dict(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
    return (*tensors, *{**names, **options}.values())


def results(run, tensors, options):
    y = run(*tensors, **options)
    inputs = [t for t in tensors if t is not None and t.requires_grad]
    return y, *torch.autograd.grad(y.sin().sum(), inputs)


def compiled(graphs):
    """The function, compiled; the graphs of its forward and its backward pass are collected."""

    def collect(module, inputs):
        graphs.append(module.graph)
        return make_boxed_func(module.forward)

    torch._dynamo.reset()
    backend = aot_autograd(fw_compiler=collect, bw_compiler=collect)
    return torch.compile(conv2d, backend=backend, fullgraph=True)


def nodes_of(graph, word):
    return [node for node in graph.nodes if word in str(node.target)]


@every_case
@pytest.mark.parametrize('bias', [True, False])
def test_compiled_as_one_node(case, bias):
    arguments, graphs = make_arguments(case, bias), []
    found = results(compiled(graphs), *arguments)
    for value, truth in zip(found, results(F.conv2d, *arguments), strict=True):
        torch.testing.assert_close(value, truth)
    names = [[str(n.target) for n in nodes_of(graph, 'convolution')] for graph in graphs]
    assert names == [['mmv2m.convolution.default'], ['mmv2m.convolution_backward.default']]
    assert found[0].is_contiguous(memory_format=torch.channels_last)


def test_images_are_given_no_gradient():
    (x, weight, bias), options = make_arguments('strided')
    arguments, graphs = ([x.detach(), weight, bias], options), []
    found = results(compiled(graphs), *arguments)
    torch.testing.assert_close(found, results(F.conv2d, *arguments))
    (node,) = nodes_of(graphs[1], 'convolution_backward')
    assert [value.shape for value in node.meta['val']] == [weight.shape, bias.shape]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_autocast(dtype):
    arguments = make_arguments('strided', dtype=dtype)
    with torch.autocast('cpu', torch.bfloat16):
        found, truth = (results(run, *arguments) for run in (compiled([]), F.conv2d))
    assert found[0].dtype is (torch.bfloat16 if dtype == torch.float32 else dtype)
    for value, expected in zip(found, truth, strict=True):
        assert value.dtype is expected.dtype
        torch.testing.assert_close(value, expected)


@every_case
@pytest.mark.parametrize('bias', [True, False])
def test_opcheck(case, bias):
    tensors, options = make_arguments(case, bias)
    args = in_full(tensors, options)
    torch.library.opcheck(torch.ops.mmv2m.convolution.default, args)
    y = torch.ops.mmv2m.convolution.default(*args).detach()
    x, weight, _ = (t if t is None else t.detach() for t in tensors)
    for of_x in (True, False):
        args = (torch.randn_like(y), x, weight, *in_full((), options), of_x, bias)
        torch.library.opcheck(torch.ops.mmv2m.convolution_backward.default, args)


class Convolution(nn.Module):
    def __init__(self, weight, options):
        super().__init__()
        self.weight, self.options = nn.Parameter(weight), options

    def forward(self, x):
        return conv2d(x, self.weight, **self.options)


@pytest.mark.parametrize('strict', [True, False])
def test_exported_as_pytorchs(strict):
    (x, weight, _), options = make_arguments('strided')
    exported = torch.export.export(
        Convolution(weight.detach(), options), (x.detach(),), strict=strict
    )
    assert [str(n.target) for n in nodes_of(exported.graph, 'conv')] == ['aten.conv2d.default']


def test_traced_as_pytorchs():
    (x, weight, _), options = make_arguments('strided')
    traced = torch.jit.trace(Convolution(weight.detach(), options), x.detach())
    assert '_convolution' in str(traced.graph) and 'mmv2m' not in str(traced.graph)


def test_wrong_shapes_are_refused_as_by_pytorch():
    (x, weight, _), options = make_arguments('strided')
    torch._dynamo.reset()
    with pytest.raises(RuntimeError):
        torch.compile(conv2d, backend='aot_eager')(x[:, :3], weight, **options)
